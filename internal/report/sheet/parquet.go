package sheet

import (
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/parquet-go/parquet-go"
)

// Parquet is a file with typed columns, all of them optional: decimals as DECIMAL(38,9), instants as
// TIMESTAMP(ms, UTC), dates as DATE, whole numbers as INT64. A month is text, as Parquet has no such type, and so
// is JSON: readers of Parquet's own take it apart and write it differently.
type Parquet struct{}

const (
	parquetGroupRows = 64 << 10 // of a row group, which is what is in memory
	parquetBatchRows = 512
)

// Write writes the file. A value that its column's type cannot hold is a *LimitError.
func (Parquet) Write(w io.Writer, t Table) error {
	out := parquet.NewGenericWriter[any](w, parquet.NewSchema("report", newGroup(t.Columns)),
		parquet.Compression(&parquet.Snappy), parquet.MaxRowsPerRowGroup(parquetGroupRows), parquet.CreatedBy("countinghouse", "1", ""))
	b := parquetBatch{out: out, columns: t.Columns}
	for row, err := range t.Rows {
		if err != nil {
			return err
		}
		if err := b.add(row); err != nil {
			return err
		}
	}
	if err := b.flush(); err != nil {
		return err
	}
	return out.Close()
}

// parquetBatch hands rows over some at a time; bytes of their cells are in one piece of memory.
type parquetBatch struct {
	out     *parquet.GenericWriter[any]
	columns []Column
	rows    []parquet.Row
	values  []parquet.Value
	bytes   []byte
}

func (b *parquetBatch) add(row Row) error {
	begin := len(b.values)
	for i, cell := range row {
		if cell == "" {
			b.values = append(b.values, parquet.NullValue().Level(0, 0, i))
			continue
		}
		v, ok := b.value(b.columns[i].Kind, cell)
		if !ok {
			return &LimitError{FormatParquet, fmt.Sprintf("column %s has the value %.60q, which its type has no room for; ask for csv", b.columns[i].Name, cell)}
		}
		b.values = append(b.values, v.Level(0, 1, i))
	}
	b.rows = append(b.rows, b.values[begin:len(b.values):len(b.values)])
	if len(b.rows) < parquetBatchRows {
		return nil
	}
	return b.flush()
}

func (b *parquetBatch) flush() error {
	_, err := b.out.WriteRows(b.rows)
	b.rows, b.values, b.bytes = b.rows[:0], b.values[:0], b.bytes[:0]
	return err
}

// value is a cell as its column's type has it; false: it does not fit.
func (b *parquetBatch) value(kind Kind, cell string) (parquet.Value, bool) {
	begin := len(b.bytes)
	switch kind {
	case Whole:
		n, ok := whole(cell)
		return parquet.Int64Value(n), ok
	case Bool:
		return parquet.BooleanValue(cell == Boolean(true)), true
	case Instant:
		at, err := time.Parse(time.RFC3339, cell)
		return parquet.Int64Value(at.UnixMilli()), err == nil
	case Date:
		at, err := time.Parse(time.DateOnly, cell)
		return parquet.Int32Value(int32(at.Unix() / 86_400)), err == nil && at.Unix()%86_400 == 0
	case Decimal:
		var ok bool
		b.bytes, ok = appendDecimal(b.bytes, cell)
		return parquet.FixedLenByteArrayValue(b.bytes[begin:]), ok
	}
	b.bytes = append(b.bytes, cell...)
	return parquet.ByteArrayValue(b.bytes[begin:]), true
}

// group is a schema whose columns keep their order: parquet.Group sorts them by name.
type group struct {
	parquet.Group
	fields []parquet.Field
}

type field struct {
	parquet.Node
	name string
}

func newGroup(columns []Column) group {
	g := group{Group: parquet.Group{}}
	for _, c := range columns {
		node := parquet.Optional(leaf(c.Kind))
		g.Group[c.Name] = node
		g.fields = append(g.fields, field{node, c.Name})
	}
	return g
}

// Fields are the columns in order.
func (g group) Fields() []parquet.Field { return g.fields }

// Name is the column's.
func (f field) Name() string { return f.name }

// Value is never asked for: rows are written as values, not as structs.
func (f field) Value(base reflect.Value) reflect.Value { return base.MapIndex(reflect.ValueOf(f.name)) }

func leaf(kind Kind) parquet.Node {
	switch kind {
	case Whole:
		return parquet.Int(64)
	case Bool:
		return parquet.Leaf(parquet.BooleanType)
	case Instant:
		return parquet.TimestampAdjusted(parquet.Millisecond, true)
	case Date:
		return parquet.Date()
	case Decimal:
		return parquet.Decimal(decimalScale, decimalPrecision, parquet.FixedLenByteArrayType(decimalBytes))
	case Code, Month:
		return parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	}
	return parquet.String()
}
