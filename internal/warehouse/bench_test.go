package warehouse_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// stream makes realistic usage: chunks of 500 events of one tenant of 200, 20 accounts, 5 meters, random
// UUIDs as ids, a correlation id shared by 100 events, times within seconds of each other.
type stream struct {
	rnd   *rand.Rand
	n     int
	start time.Time
}

func newStream() *stream {
	return &stream{rnd: rand.New(rand.NewPCG(1, 2)), start: time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)}
}

func (s *stream) uuid() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], s.rnd.Uint64())
	binary.LittleEndian.PutUint64(b[8:], s.rnd.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return uuid.UUID(b).String()
}

// blocks is one batch of rows events, as the aggregator would cut it: rows, rollup cells, ledger.
func (s *stream) blocks(rows int, reuse []warehouse.Block) []warehouse.Block {
	if reuse == nil {
		reuse = []warehouse.Block{warehouse.NewEventBlock(), warehouse.NewHourlyBlock(), warehouse.NewLedgerBlock()}
	}
	events, hourly, ledger := reuse[0].(*warehouse.EventBlock), reuse[1].(*warehouse.RollupBlock), reuse[2].(*warehouse.LedgerBlock)
	for _, b := range reuse {
		b.Reset()
	}
	type key struct {
		account, meter string
		hour           int64
	}
	cells := map[key]*warehouse.RollupRow{}
	meters := [...]string{"tokens", "api_calls", "bandwidth_gib", "sms_credits", "asset_hours"}
	var r warehouse.EventRow
	var tenant int
	for range rows {
		seq, idx := 1+s.n/500, s.n%500
		logged := usage.AtTime(s.start.Add(time.Duration(seq) * 5 * time.Millisecond)) // 100,000 events a second
		if idx == 0 {
			tenant = s.rnd.IntN(200)
		}
		if s.n%100 == 0 {
			r.CorrelationID = s.uuid()
			r.CausationID = r.CorrelationID
		}
		at := usage.At(logged.Nanos() - int64(s.rnd.IntN(3_000_000_000)))
		r.Position, r.Sign = warehouse.Position{Seq: uint64(seq), Idx: uint32(idx)}, 1
		r.Tenant, r.Source, r.ID = "tenant-"+strconv.Itoa(tenant), "/gateway/"+strconv.Itoa(s.n%4), s.uuid()
		r.IDHash, r.ContentHash = usage.IdentityHash(r.Tenant, usage.Identity{Source: r.Source, ID: r.ID}), s.rnd.Uint64()
		r.Type, r.Account = usage.TypeMetered, r.Tenant+"-"+strconv.Itoa(s.rnd.IntN(20))
		r.At, r.ReportedAt, r.RecordedAt, r.AcceptedAt = at, at, logged, usage.At(logged.Nanos()-4_000_000)
		r.WrittenAt = usage.AtTime(s.start.Add(time.Duration(seq/200) * time.Second))
		r.Meter, r.Quantity = meters[s.rnd.IntN(5)], usage.Int(int64(1+s.rnd.IntN(4000)))
		r.Unit, r.Region, r.Platform = "unit", "eu", "aws"
		r.ConsumerType, r.ConsumerID, r.Item = "user", "user-"+strconv.Itoa(s.rnd.IntN(100)), "model-"+strconv.Itoa(s.n%3)
		events.Append(&r)
		k := key{r.Account, r.Meter, at.Millis() / 3_600_000}
		c := cells[k]
		if c == nil {
			c = &warehouse.RollupRow{Tenant: r.Tenant, Account: r.Account, Meter: r.Meter, At: usage.At(k.hour * 3_600_000_000_000), Region: "eu", Platform: "aws", FirstAt: at, LastAt: at}
			cells[k] = c
		}
		c.Hi, c.Quantity, c.Events, c.Rows = r.Seq, c.Quantity.Add(r.Quantity), c.Events+1, c.Rows+1
		if idx == 499 {
			ledger.Append(&warehouse.LedgerRow{Seq: r.Seq, Tenant: r.Tenant, LoggedAt: logged, Hash: [16]byte(uuid.MustParse(s.uuid())), Accepted: 500, Stored: 500})
		}
		s.n++
	}
	for _, c := range cells {
		hourly.Append(c)
	}
	return reuse
}

// cpu is the processor time a process has used so far.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// BenchmarkInsert stores batches of 100,000 events with their rollup and ledger, and reports rows a
// second, processor seconds per million events here and in the server (merges included), and bytes per
// event on disk after all merges.
func BenchmarkInsert(b *testing.B) {
	for _, compress := range []bool{false, true} {
		b.Run(fmt.Sprintf("lz4=%v", compress), func(b *testing.B) {
			t := setUp(b)
			t.w = t.open(warehouse.Config{Compress: compress})
			wr := t.takeOver(0)
			s := newStream()
			var blocks []warehouse.Block
			const rows = 100_000
			server, ours := cpu(b, t.engine.PID()), time.Duration(0)
			var busy time.Duration
			for b.Loop() {
				b.StopTimer()
				blocks = s.blocks(rows, blocks)
				b.StartTimer()
				before, started := cpu(b, os.Getpid()), time.Now()
				for _, block := range blocks {
					t.insert(wr, block)
				}
				busy += time.Since(started)
				ours += cpu(b, os.Getpid()) - before
			}
			b.StopTimer()
			million := float64(s.n) / 1e6
			b.ReportMetric(float64(s.n)/busy.Seconds(), "rows/s")
			b.ReportMetric((cpu(b, t.engine.PID())-server).Seconds()/million, "server-cpu-s/M")
			b.ReportMetric(ours.Seconds()/million, "client-cpu-s/M")
			for _, table := range []string{"events", "usage_hourly", "ledger"} {
				t.query("OPTIMIZE TABLE {{db}}.%s FINAL", table)
			}
			bytes, err := strconv.ParseFloat(t.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE database = '{{db}}' AND active"), 64)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(bytes/float64(s.n), "bytes/event")
			b.Log("\n" + t.query(`SELECT table, column, round(sum(column_data_compressed_bytes) / %d, 2) AS b FROM system.parts_columns
				WHERE database = '{{db}}' AND active GROUP BY table, column HAVING b >= 0.05
				UNION ALL SELECT name, column, round(sum(column_data_compressed_bytes) / %[1]d, 2) AS b FROM system.projection_parts_columns
				WHERE database = '{{db}}' AND active GROUP BY name, column ORDER BY b DESC`, s.n))
		})
	}
}

// BenchmarkAppend builds a block: the cost of a row before it is sent.
func BenchmarkAppend(b *testing.B) {
	block := warehouse.NewEventBlock()
	rows := make([]*warehouse.EventRow, 1000)
	for i := range rows {
		rows[i] = event(i, day("2026-01-01"))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%100_000 == 0 {
			block.Reset()
		}
		block.Append(rows[i%1000])
	}
}

// BenchmarkLookup asks for 1,000 identities that are stored anywhere, and for 30 that are not, which is
// what a filter's false positives come to.
func BenchmarkLookup(b *testing.B) {
	for _, size := range []int{1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			if size > 1_000_000 && os.Getenv("BENCH_LARGE") == "" {
				return // minutes of inserts: BENCH_LARGE=1
			}
			t := setUp(b)
			wr := t.takeOver(0)
			s := newStream()
			var blocks []warehouse.Block
			for s.n < size {
				blocks = s.blocks(100_000, blocks)
				t.insert(wr, blocks[0])
			}
			var stored, missing []warehouse.Key
			err := t.w.Query(t.ctx, "SELECT tenant, source, id FROM {{db}}.events ORDER BY cityHash64(id) LIMIT 1000", nil, func(r warehouse.Rows) error {
				var k warehouse.Key
				err := r.Scan(&k.Tenant, &k.Source, &k.ID)
				k.Hash = usage.IdentityHash(k.Tenant, usage.Identity{Source: k.Source, ID: k.ID})
				stored = append(stored, k)
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
			for i := range 30 {
				missing = append(missing, warehouse.Key{Tenant: "t", Source: "s", ID: fmt.Sprint(i), Hash: uint64(i) * 0x9E3779B97F4A7C15})
			}
			for name, keys := range map[string][]warehouse.Key{"1000-stored": stored, "30-missing": missing} {
				b.Run(name, func(b *testing.B) {
					for b.Loop() {
						if _, err := t.w.Lookup(t.ctx, 0, keys); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}
