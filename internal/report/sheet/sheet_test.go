package sheet_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
)

func TestMain(m *testing.M) { localstack.Main(m) }

func columns() []sheet.Column {
	return []sheet.Column{
		{Name: "name, or so", Kind: sheet.Text}, {Name: "Code", Kind: sheet.Code}, {Name: "N", Kind: sheet.Whole}, {Name: "cost", Kind: sheet.Decimal},
		{Name: "at", Kind: sheet.Instant}, {Name: "day", Kind: sheet.Date}, {Name: "month", Kind: sheet.Month}, {Name: "Trial", Kind: sheet.Bool},
		{Name: "more", Kind: sheet.JSON},
	}
}

func rows() []sheet.Row {
	return []sheet.Row{
		{"Smith, Jones | Co", "=id", "-12", "12.500000", "2025-03-01T00:00:00Z", "2025-03-01", "2025-03", "TRUE", `{"a":1}`},
		{"=1+1", "b", "9007199254740993", "-99999999999999999999999999999.999999999", "2025-03-01T00:00:00.001Z", "1970-01-01", "2025-12", "FALSE", `{}`},
		{" \"quoted\"\r\nand more", "", "", "", "", "", "", "", ""},
		{"", "", "0", "0.000000001", "1969-12-31T23:59:59.999Z", "1969-12-31", "", "", ""},
		{"_x0041_\x01ü", "", "7", "123456789012.345", "", "", "", "", ""},
	}
}

func write(t *testing.T, f sheet.Format, table sheet.Table) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f.Writer().Write(&b, table); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCSV(t *testing.T) {
	t.Parallel()
	table := sheet.Table{Columns: columns(), Rows: sheet.Of(rows())}
	want := []string{
		`"name, or so",Code,N,cost,at,day,month,Trial,more`,
		`"Smith, Jones | Co",'=id,-12,12.500000,2025-03-01T00:00:00Z,2025-03-01,2025-03,TRUE,"{""a"":1}"`,
		`'=1+1,b,9007199254740993,-99999999999999999999999999999.999999999,2025-03-01T00:00:00.001Z,1970-01-01,2025-12,FALSE,{}`,
		`" ""quoted""`, `and more",,,,,,,,`,
		`,,0,0.000000001,1969-12-31T23:59:59.999Z,1969-12-31,,,`,
		"_x0041_\x01ü,,7,123456789012.345,,,,,",
	}
	if got := string(write(t, sheet.FormatCSV, table)); got != strings.Join(want, "\r\n")+"\r\n" {
		t.Errorf("comma:\n%q", got)
	}
	want[0], want[1] = "name, or so|Code|N|cost|at|day|month|Trial|more", `"Smith, Jones | Co"|'=id|-12|12.500000|2025-03-01T00:00:00Z|2025-03-01|2025-03|TRUE|"{""a"":1}"`
	got := string(write(t, sheet.FormatPipe, table))
	if lines := strings.Split(got, "\r\n"); lines[0] != want[0] || lines[1] != want[1] {
		t.Errorf("pipe:\n%s", got)
	}
	if alone := string(write(t, sheet.FormatCSV, sheet.Table{Columns: columns()[:1], Rows: sheet.Of([]sheet.Row{{""}, {"a"}})})); alone != "\"name, or so\"\r\n\"\"\r\na\r\n" {
		t.Errorf("one column: %q", alone)
	}
}

// FuzzCSV: whatever text a cell holds, a reader of RFC 4180 gets it back, and a spreadsheet no formula.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"", "a", "=1", "\t=1", "\r", "\n", `"`, `""`, " a ", "\u00a0a", "a|b,c", "é", "\xff", "'", "-1", "+10.50", "-1+2", "-", "-.", "-1e5", "a\r\nb", "\u2028="} {
		f.Add(s, "x", byte(','))
		f.Add("x", s, byte('|'))
	}
	f.Fuzz(func(t *testing.T, first, second string, delimiter byte) {
		if delimiter != '|' {
			delimiter = ','
		}
		table := sheet.Table{
			Columns: []sheet.Column{{Name: "a", Kind: sheet.Text}, {Name: "b", Kind: sheet.Code}},
			Rows:    sheet.Of([]sheet.Row{{first, second}, {second, first}}),
		}
		var b bytes.Buffer
		if err := (sheet.CSV{Delimiter: delimiter}).Write(&b, table); err != nil {
			t.Fatal(err)
		}
		r := csv.NewReader(bytes.NewReader(b.Bytes()))
		r.Comma = rune(delimiter)
		back, err := r.ReadAll()
		if err != nil || len(back) != 3 {
			t.Fatalf("%q: %v %q", b.Bytes(), err, back)
		}
		unit := strings.NewReplacer("\r\n", "\n") // what encoding/csv makes of line ends in quotes
		for i, want := range [][2]string{{first, second}, {second, first}} {
			for cell, got := range back[i+1] {
				sent := want[cell]
				if guarded, ok := strings.CutPrefix(got, "'"); ok && sent != "" && strings.IndexByte("=+-@\t\r", sent[0]) >= 0 {
					got = guarded
				} else if _, err := strconv.ParseFloat(got, 64); got != "" && strings.IndexByte("=+-@\t\r", got[0]) >= 0 && (cell == 0 || err != nil) {
					t.Errorf("%q is not guarded", got)
				}
				if unit.Replace(got) != unit.Replace(sent) {
					t.Errorf("%q came back as %q", sent, got)
				}
			}
		}
	})
}

func TestJSON(t *testing.T) {
	t.Parallel()
	got := write(t, sheet.FormatJSON, sheet.Table{Columns: columns(), Rows: sheet.Of(rows())})
	var back []map[string]any
	d := json.NewDecoder(bytes.NewReader(got))
	d.UseNumber()
	if err := d.Decode(&back); err != nil || len(back) != len(rows()) {
		t.Fatalf("%v: %s", err, got)
	}
	if got := fmt.Sprint(back[1]); got != "map[Code:b N:9007199254740993 Trial:false at:2025-03-01T00:00:00.001Z cost:-99999999999999999999999999999.999999999 day:1970-01-01 month:2025-12 more:map[] name, or so:=1+1]" {
		t.Error(got)
	}
	if back[2]["cost"] != nil || back[2]["Trial"] != nil || back[2]["Code"] != "" || back[2]["name, or so"] != rows()[2][0] {
		t.Errorf("blank cells: %v", back[2])
	}
	if empty := string(write(t, sheet.FormatJSON, sheet.Table{Columns: columns(), Rows: sheet.Of(nil)})); empty != "[\n]\n" {
		t.Errorf("no rows: %q", empty)
	}
}

// TestParquetInClickHouse: another program reads the types and every digit.
func TestParquetInClickHouse(t *testing.T) {
	t.Parallel()
	file := write(t, sheet.FormatParquet, sheet.Table{Columns: columns(), Rows: sheet.Of(rows())})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
	}))
	t.Cleanup(server.Close)
	ask := func(sql string) string {
		t.Helper()
		answer, err := localstack.Shared(t).ClickHouse.Query(t.Context(), strings.ReplaceAll(sql, "FILE", "url('"+server.URL+"/r.parquet', Parquet)"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(answer)
	}
	types := strings.Fields(strings.ReplaceAll(ask("DESCRIBE FILE FORMAT TSV"), "name, or so", "name"))
	if got, want := strings.Join(types, " "), `name Nullable(String) Code Nullable(String) N Nullable(Int64) cost Nullable(Decimal(38, 9)) at Nullable(DateTime64(3, \'UTC\')) `+
		`day Nullable(Date32) month Nullable(String) Trial Nullable(Bool) more Nullable(String)`; got != want {
		t.Errorf("types:\n%s\nwant:\n%s", got, want)
	}
	got := ask("SELECT N, toString(cost), at, day, month, Trial, `name, or so` = '=1+1', length(`name, or so`) FROM FILE FORMAT CSV")
	want := `-12,"12.5","2025-03-01 00:00:00.000","2025-03-01","2025-03",true,0,17
9007199254740993,"-99999999999999999999999999999.999999999","2025-03-01 00:00:00.001","1970-01-01","2025-12",false,1,4
\N,\N,\N,\N,\N,\N,0,19
0,"0.000000001","1969-12-31 23:59:59.999","1969-12-31",\N,\N,\N,\N
7,"123456789012.345",\N,\N,\N,\N,0,10`
	if got != want {
		t.Errorf("rows:\n%s\nwant:\n%s", got, want)
	}
}

func TestXLSX(t *testing.T) {
	t.Parallel()
	file := write(t, sheet.FormatXLSX, sheet.Table{Columns: columns(), Rows: sheet.Of(rows())})
	if again := write(t, sheet.FormatXLSX, sheet.Table{Columns: columns(), Rows: sheet.Of(rows())}); !bytes.Equal(file, again) {
		t.Error("the same table gives other bytes")
	}
	book, err := excelize.OpenReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	shown, err := book.GetRows("Report")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"name, or so|Code|N|cost|at|day|month|Trial|more",
		"Smith, Jones | Co|=id|-12|12.500000|2025-03-01 00:00:00.000|2025-03-01|2025-03|TRUE|{\"a\":1}",
		"=1+1|b|9007199254740993|-99999999999999999999999999999.999999999|2025-03-01 00:00:00.000|1970-01-01|2025-12|FALSE|{}",
		" \"quoted\"\r\nand more",
		"||0|0.000000001|1970-01-01 00:00:00.000|1969-12-31", // the reading library shows no milliseconds
		"_x0041_\ufffdü||7|123456789012.345",
	}
	for i, row := range shown {
		if got := strings.Join(row, "|"); i >= len(want) || got != want[i] {
			t.Errorf("row %d: %q", i, got)
		}
	}
	for cell, want := range map[string]excelize.CellType{
		"D2": excelize.CellTypeUnset, "D3": excelize.CellTypeInlineString, "C3": excelize.CellTypeInlineString, "C2": excelize.CellTypeUnset,
		"A3": excelize.CellTypeInlineString, "H2": excelize.CellTypeBool,
	} {
		if got, err := book.GetCellType("Report", cell); got != want || err != nil {
			t.Errorf("%s is of type %d, want %d (%v)", cell, got, want, err)
		}
	}
	if raw, err := book.GetCellValue("Report", "E3", excelize.Options{RawCellValue: true}); raw != "45717.000000011576" || err != nil {
		t.Errorf("an instant with milliseconds is %s (%v)", raw, err)
	}
	panes, err := book.GetPanes("Report")
	if err != nil || !panes.Freeze || panes.YSplit != 1 {
		t.Errorf("the header is not frozen: %+v %v", panes, err)
	}
}

// TestLimits: what a format cannot hold is refused in words, not cut.
func TestLimits(t *testing.T) {
	t.Parallel()
	one := func(kind sheet.Kind, cell string) sheet.Table {
		return sheet.Table{Columns: []sheet.Column{{Name: "c", Kind: kind}}, Rows: sheet.Of([]sheet.Row{{cell}})}
	}
	for name, tt := range map[string]struct {
		format sheet.Format
		table  sheet.Table
	}{
		"rows of a sheet":      {sheet.FormatXLSX, many(1_048_576)},
		"text of a cell":       {sheet.FormatXLSX, one(sheet.Text, strings.Repeat("ä", 32_768))},
		"ten decimals":         {sheet.FormatParquet, one(sheet.Decimal, "0.0000000001")},
		"thirty digits":        {sheet.FormatParquet, one(sheet.Decimal, "100000000000000000000000000000")},
		"a whole number":       {sheet.FormatParquet, one(sheet.Whole, "9223372036854775808")},
		"what is no decimal":   {sheet.FormatParquet, one(sheet.Decimal, "1e3")},
		"what is no date":      {sheet.FormatParquet, one(sheet.Date, "yesterday")},
		"what is no timestamp": {sheet.FormatParquet, one(sheet.Instant, "2025-03-01")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			var limit *sheet.LimitError
			if err := tt.format.Writer().Write(&b, tt.table); !errors.As(err, &limit) || !strings.Contains(limit.Detail, "ask for csv") && !strings.Contains(limit.Detail, "parquet") {
				t.Errorf("error %v", err)
			}
			if tt.format == sheet.FormatXLSX && b.Len() > 0 {
				t.Errorf("%d bytes of a file that was refused", b.Len())
			}
		})
	}
	if err := (sheet.XLSX{}).Write(io.Discard, many(1_048_575)); err != nil {
		t.Errorf("as many rows as a sheet has: %v", err)
	}
}

// TestRowsEndWithAnError: no writer takes the end of rows that failed for the end of the table.
func TestRowsEndWithAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, f := range sheet.Formats() {
		table := sheet.Table{Columns: columns(), Rows: func(yield func(sheet.Row, error) bool) {
			for _, row := range rows() {
				if !yield(row, nil) {
					return
				}
			}
			yield(nil, broken)
		}}
		if err := f.Writer().Write(io.Discard, table); !errors.Is(err, broken) {
			t.Errorf("%s: %v", f, err)
		}
		if err := f.Writer().Write(full{}, sheet.Table{Columns: columns(), Rows: sheet.Of(rows())}); !errors.Is(err, errFull) {
			t.Errorf("%s to a full disk: %v", f, err)
		}
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// many are rows like those of a detail report, made as they are read.
func many(n int) sheet.Table {
	kinds := []sheet.Column{
		{Name: "organizationId", Kind: sheet.Text}, {Name: "tenantId", Kind: sheet.Text}, {Name: "assetName", Kind: sheet.Text}, {Name: "assetType", Kind: sheet.Code},
		{Name: "meterName", Kind: sheet.Text}, {Name: "start", Kind: sheet.Instant}, {Name: "end", Kind: sheet.Instant}, {Name: "quantity", Kind: sheet.Decimal},
		{Name: "billingRegion", Kind: sheet.Code}, {Name: "trial", Kind: sheet.Bool},
	}
	row := sheet.Row{"", "organization-1", "asset, no. 1", "USER", "user_hours_essentials", "2025-03-01T00:00:00Z", "2025-03-02T00:00:00Z", "24.000000", "EU", "FALSE"}
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("tenant-%d", i)
	}
	return sheet.Table{Columns: kinds, Rows: func(yield func(sheet.Row, error) bool) {
		for i := range n {
			row[0] = names[i%len(names)]
			if !yield(row, nil) {
				return
			}
		}
	}}
}

// TestMemoryIsFlat: a million rows take no more memory than a hundred thousand. Of a workbook three hundred thousand are
// enough: it is slow to write, and would hold a kilobyte a row.
func TestMemoryIsFlat(t *testing.T) {
	for _, f := range sheet.Formats() {
		many := 1_000_000
		if f == sheet.FormatXLSX {
			many = 300_000
		}
		few, lots := peak(t, f, 100_000), peak(t, f, many)
		t.Logf("%s: %d KiB for 100,000 rows, %d KiB for %d", f, few>>10, lots>>10, many)
		if lots > few+few/2+32<<20 {
			t.Errorf("%s: %d KiB for 100,000 rows, %d KiB for %d", f, few>>10, lots>>10, many)
		}
	}
}

// peak is the most memory in use while rows are written, over what was in use before.
func peak(t *testing.T, f sheet.Format, n int) uint64 {
	t.Helper()
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	before, most := stats.HeapAlloc, uint64(0)
	table := many(n)
	all := table.Rows
	table.Rows = func(yield func(sheet.Row, error) bool) {
		i := 0
		for row, err := range all {
			if i++; i%(n/20) == 0 {
				runtime.GC()
				runtime.ReadMemStats(&stats)
				most = max(most, stats.HeapAlloc-min(before, stats.HeapAlloc))
			}
			if !yield(row, err) {
				return
			}
		}
	}
	if err := f.Writer().Write(io.Discard, table); err != nil {
		t.Fatal(err)
	}
	return most
}

func BenchmarkCSV(b *testing.B)     { benchmark(b, sheet.FormatCSV) }
func BenchmarkJSON(b *testing.B)    { benchmark(b, sheet.FormatJSON) }
func BenchmarkParquet(b *testing.B) { benchmark(b, sheet.FormatParquet) }
func BenchmarkXLSX(b *testing.B)    { benchmark(b, sheet.FormatXLSX) }

func benchmark(b *testing.B, f sheet.Format) {
	const n = 100_000
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Writer().Write(io.Discard, many(n)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s") //arch:float a rate
}
