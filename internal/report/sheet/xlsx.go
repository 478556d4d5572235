package sheet

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// XLSX is a workbook of one sheet with typed cells and a header that stays in sight.
//
// A number is a number where a spreadsheet keeps all its digits, which are 15; a longer one is written as text,
// so that it is exact but does not add up. Number formats show the decimals the report has. Control characters in
// text, which XML cannot say, are U+FFFD. Nothing is written before the last row has come: what a sheet cannot hold
// is refused before the first byte.
type XLSX struct{}

const (
	xlsxRowsMax   = 1_048_576 // of a sheet, with the header
	xlsxCellMax   = 32_767    // UTF-16 units of a cell
	xlsxDigitsMax = 15        // that a spreadsheet keeps of a number
	xlsxSheet     = "Report"
	xlsxWidthMin  = 10
	xlsxWidthMax  = 40
)

// Write writes the workbook. A table that a sheet cannot hold is a *LimitError.
func (XLSX) Write(w io.Writer, t Table) (err error) {
	book := excelize.NewFile()
	defer func() { err = errors.Join(err, book.Close()) }() // removes the temporary file of the rows
	if err := errors.Join(book.SetSheetName(book.GetSheetName(0), xlsxSheet), book.SetDocProps(&excelize.DocProperties{Creator: "countinghouse"})); err != nil {
		return err
	}
	s := &xlsxSheetWriter{columns: t.Columns, rows: 1, cells: make([]any, len(t.Columns))}
	if s.stream, err = book.NewStreamWriter(xlsxSheet); err != nil {
		return err
	}
	if err := s.styles(book); err != nil {
		return err
	}
	if err := s.head(); err != nil {
		return err
	}
	for row, err := range t.Rows {
		if err != nil {
			return err
		}
		if err := s.add(row); err != nil {
			return err
		}
	}
	if err := s.stream.Flush(); err != nil {
		return err
	}
	// The workbook is zipped straight to w: the library's own way holds all of it in memory.
	_, err = book.SetZipWriter(func(io.Writer) excelize.ZipWriter { return zip.NewWriter(w) }).WriteTo(io.Discard)
	return err
}

type xlsxSheetWriter struct {
	stream  *excelize.StreamWriter
	columns []Column
	rows    int
	cells   []any
	bold    int
	moment  int // styles
	day     int
	places  [decimalScale + 1]int // of numbers, by digits after the point
}

// styles makes the formats of cells.
func (s *xlsxSheetWriter) styles(book *excelize.File) error {
	var errs []error
	style := func(format string) int {
		id, err := book.NewStyle(&excelize.Style{CustomNumFmt: &format})
		errs = append(errs, err)
		return id
	}
	bold, err := book.NewStyle(&excelize.Style{Font: &excelize.Font{Bold: true}})
	s.bold, s.moment, s.day = bold, style("yyyy-mm-dd hh:mm:ss.000"), style("yyyy-mm-dd")
	s.places[0] = style("0")
	for i := 1; i < len(s.places); i++ {
		s.places[i] = style("0." + strings.Repeat("0", i))
	}
	return errors.Join(append(errs, err)...)
}

func (s *xlsxSheetWriter) head() error {
	if err := s.stream.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}); err != nil {
		return err
	}
	cells := make([]any, len(s.columns))
	for i, c := range slices.Backward(s.columns) { // the library puts each width before the last one
		width := min(max(utf8.RuneCountInString(c.Name)+2, xlsxWidthMin), xlsxWidthMax)
		switch c.Kind {
		case Instant:
			width = max(width, len("2025-03-01 00:00:00.000")+2)
		case Text, Code, JSON:
			width = max(width, xlsxWidthMax/2)
		}
		if err := s.stream.SetColWidth(i+1, i+1, float64(width)); err != nil { //arch:float the width of a column
			return err
		}
		cells[i] = excelize.Cell{StyleID: s.bold, Value: c.Name}
	}
	return s.stream.SetRow("A1", cells)
}

func (s *xlsxSheetWriter) add(row Row) error {
	if s.rows++; s.rows > xlsxRowsMax {
		return &LimitError{FormatXLSX, fmt.Sprintf("a sheet has at most %d rows; ask for csv or parquet, or for less", xlsxRowsMax)}
	}
	for i, cell := range row {
		if len(cell) > xlsxCellMax && len(utf16.Encode([]rune(cell))) > xlsxCellMax {
			return &LimitError{FormatXLSX, fmt.Sprintf("column %s has a value of more than %d characters; ask for csv or parquet", s.columns[i].Name, xlsxCellMax)}
		}
		s.cells[i] = s.cell(s.columns[i].Kind, cell)
	}
	return s.stream.SetRow("A"+strconv.Itoa(s.rows), s.cells)
}

func (s *xlsxSheetWriter) cell(kind Kind, cell string) any {
	if cell == "" {
		return nil
	}
	switch kind {
	case Bool:
		return cell == Boolean(true)
	case Whole, Decimal:
		if n, places, ok := short(cell); ok {
			return excelize.Cell{StyleID: s.places[places], Value: n}
		}
		return cell
	case Instant:
		if at, err := time.Parse(time.RFC3339, cell); err == nil && at.Year() > 1900 {
			return excelize.Cell{StyleID: s.moment, Value: at}
		}
	case Date:
		if at, err := time.Parse(time.DateOnly, cell); err == nil && at.Year() > 1900 {
			return excelize.Cell{StyleID: s.day, Value: at}
		}
	}
	return cell
}

// short is a number as a spreadsheet has it, and the decimals to show; false: it would lose digits.
func short(cell string) (n any, places int, ok bool) {
	_, whole, fraction, ok := digits(cell)
	_, shown, _ := strings.Cut(cell, ".")
	if !ok || len(whole)+len(fraction) > xlsxDigitsMax || len(shown) > decimalScale {
		return nil, 0, false
	}
	value, err := strconv.ParseFloat(cell, 64) // 15 digits come back from a double as they were
	return value, len(shown), err == nil
}
