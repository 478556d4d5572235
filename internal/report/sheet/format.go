package sheet

import (
	"io"
	"slices"
	"strings"
)

// Format is a file format of tables.
type Format string

// The formats, by the names of parameter format.
const (
	FormatJSON    Format = "json"
	FormatCSV     Format = "csv"
	FormatPipe    Format = "csv-pipe"
	FormatParquet Format = "parquet"
	FormatXLSX    Format = "xlsx"
)

// Formats are all of them.
func Formats() []Format {
	return []Format{FormatJSON, FormatCSV, FormatPipe, FormatParquet, FormatXLSX}
}

// FormatNames are the names of all, as a sentence has them.
func FormatNames() string {
	var names []string
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// Parse finds a format by its name.
func Parse(name string) (Format, bool) {
	return Format(name), slices.Contains(Formats(), Format(name))
}

// MediaType is without parameters. Both forms of CSV have the same.
func (f Format) MediaType() string {
	switch f {
	case FormatCSV, FormatPipe:
		return "text/csv"
	case FormatParquet:
		return "application/vnd.apache.parquet"
	case FormatXLSX:
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	}
	return "application/json"
}

// Extension is of a file's name, with its dot.
func (f Format) Extension() string {
	switch f {
	case FormatCSV, FormatPipe:
		return ".csv"
	case FormatParquet:
		return ".parquet"
	case FormatXLSX:
		return ".xlsx"
	}
	return ".json"
}

// Writer writes one table as a file. It returns the first error of the rows, or of w; the file is whole only
// where it returned nil.
type Writer interface {
	Write(w io.Writer, t Table) error
}

// Writer is the format's writer.
func (f Format) Writer() Writer {
	switch f {
	case FormatCSV:
		return CSV{}
	case FormatPipe:
		return CSV{Delimiter: '|'}
	case FormatParquet:
		return Parquet{}
	case FormatXLSX:
		return XLSX{}
	}
	return Array{}
}

// LimitError is a table that a format cannot hold. Other formats can: Detail names them.
type LimitError struct {
	Format Format
	Detail string
}

func (e *LimitError) Error() string { return string(e.Format) + " cannot hold this table: " + e.Detail }
