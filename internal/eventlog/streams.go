package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

const (
	partitionsKey    = "countinghouse_partitions" // stream metadata: N, fixed for ever
	duplicatesWindow = 2 * time.Minute
	probesMin        = 32
	errStreamNoMatch = 10060 // the server's "expected stream does not match"
)

func (l *Log) streamConfig(p int) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:        streamName(p),
		Description: "usage events, append-only (schema/log)",
		Subjects:    []string{fmt.Sprintf("usage.log.%d.>", p)},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew, // a full log refuses; it never drops history
		MaxBytes:    l.cfg.MaxBytes,
		MaxMsgs:     -1,
		MaxMsgSize:  -1,
		Duplicates:  duplicatesWindow,
		Replicas:    l.cfg.Replicas,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: true,
		Metadata:    map[string]string{partitionsKey: strconv.Itoa(l.cfg.Partitions)},
	}
	if l.cfg.Compression {
		c.Compression = jetstream.S2Compression
	}
	return c
}

// EnsureStreams makes the streams that do not exist, takes changes of max_bytes and more replicas over, and
// fails with ErrSettings when the log was made for something else: another number of partitions,
// settings that could drop history, or a server without the subject mapping. It may be repeated and run
// by several programs at once.
func (l *Log) EnsureStreams(ctx context.Context) error {
	for p := range l.cfg.Partitions {
		if err := l.ensureStream(ctx, p); err != nil {
			return fmt.Errorf("stream %s: %w", streamName(p), err)
		}
	}
	return l.CheckMapping(ctx)
}

// checkNumber refuses another N than the log was made with, before anything is made.
func (l *Log) checkNumber(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	names := l.conn.js.ListStreams(ctx, jetstream.WithStreamListSubject("usage.log.>"))
	for info := range names.Info() {
		if err := l.sameNumber(info.Config); err != nil {
			return err
		}
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("list streams: %w", l.conn.unavailable(err))
	}
	return nil
}

func (l *Log) sameNumber(have jetstream.StreamConfig) error {
	if made := have.Metadata[partitionsKey]; made != strconv.Itoa(l.cfg.Partitions) {
		return fmt.Errorf("%w: stream %s belongs to a log of %q partitions, the configuration says %d; N is fixed when the log is made",
			ErrSettings, have.Name, made, l.cfg.Partitions)
	}
	return nil
}

func (l *Log) ensureStream(ctx context.Context, p int) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	want := l.streamConfig(p)
	// Short: a leader that died does not answer, and the next may be there a moment later.
	asking, done := context.WithTimeout(ctx, callTimeout)
	stream, err := l.conn.js.Stream(asking, want.Name)
	done()
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		// Only now: a list needs every leader of the cluster, and takes seconds after an election.
		if err := l.checkNumber(ctx); err != nil {
			return err
		}
		if want.MaxBytes == 0 {
			return fmt.Errorf("%w: max_bytes must be set to make the log: without a limit a full disk would stop the server", ErrSettings)
		}
		if _, err = l.conn.js.CreateStream(ctx, want); err == nil {
			l.log.Info("stream created", zap.String("stream", want.Name), zap.Int64("max_bytes", want.MaxBytes), zap.Int("replicas", want.Replicas))
			return nil
		}
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return l.conn.apiError(err)
		}
		stream, err = l.conn.js.Stream(ctx, want.Name) // someone else made it just now
	}
	if err != nil {
		return l.conn.apiError(err)
	}
	have := stream.CachedInfo().Config
	if err := l.sameNumber(have); err != nil {
		return err
	}
	if faults := differences(have, want); len(faults) > 0 {
		return fmt.Errorf("%w: %s", ErrSettings, strings.Join(faults, "; "))
	}
	if want.MaxBytes == 0 {
		want.MaxBytes = have.MaxBytes
	}
	// Never fewer: a program that was not told of the other servers must not throw their copies away.
	want.Replicas = max(want.Replicas, have.Replicas)
	if have.MaxBytes == want.MaxBytes && have.Replicas == want.Replicas {
		return nil
	}
	change := have
	change.MaxBytes, change.Replicas = want.MaxBytes, want.Replicas
	if _, err := l.conn.js.UpdateStream(ctx, change); err != nil {
		return fmt.Errorf("change limits: %w", l.conn.apiError(err))
	}
	l.log.Info("stream limits changed", zap.String("stream", want.Name), zap.Int64("max_bytes", want.MaxBytes), zap.Int("replicas", want.Replicas))
	return nil
}

// differences lists the settings of an existing stream that could lose history or break the protocol.
func differences(have, want jetstream.StreamConfig) []string {
	var faults []string
	differs := func(is bool, format string, args ...any) {
		if is {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	differs(len(have.Subjects) != 1 || have.Subjects[0] != want.Subjects[0], "subjects are %v, want %v", have.Subjects, want.Subjects)
	differs(have.Storage != want.Storage, "storage is %v, want file", have.Storage)
	differs(have.Retention != want.Retention, "retention is %v, want limits", have.Retention)
	differs(have.Discard != want.Discard, "discard is %v, want new", have.Discard)
	differs(have.MaxAge != 0, "max_age is %s, want none", have.MaxAge)
	differs(have.MaxMsgs > 0 || have.MaxMsgsPerSubject > 0, "it limits the number of messages")
	differs(!have.DenyDelete || !have.DenyPurge, "deny_delete and deny_purge must be on")
	differs(have.AllowRollup || have.AllowMsgTTL, "roll-up and message TTL must be off")
	differs(!have.AllowDirect, "allow_direct must be on")
	differs(have.NoAck, "it does not acknowledge")
	differs(have.Sealed, "it is sealed")
	differs(have.Duplicates < want.Duplicates, "duplicate window is %s, want at least %s", have.Duplicates, want.Duplicates)
	differs(have.SubjectTransform != nil || have.RePublish != nil || have.Mirror != nil || len(have.Sources) > 0, "it is transformed, republished, mirrored or sourced")
	return faults
}

// CheckMapping asks whether the server maps usage.in.<tenant>.<kind> onto all N partitions and onto
// nothing else. It publishes probes that expect a stream of another name: the stream that a probe
// reaches refuses it and names itself, and nothing is ever stored.
func (l *Log) CheckMapping(ctx context.Context) error {
	seen := map[int]bool{}
	// Names are hashed onto partitions: 32 tries and more find a mapping onto more than N (no stream takes
	// those), 64 each miss none of N by chance.
	for i := 0; i < probesMin || len(seen) < l.cfg.Partitions; i++ {
		if i == 64*l.cfg.Partitions {
			return fmt.Errorf("%w: the server's subject mapping reaches %d of %d partitions; see schema/log/README.md", ErrSettings, len(seen), l.cfg.Partitions)
		}
		p, err := l.probe(ctx, fmt.Sprintf("usage.in._probe%d.%s", i, KindChunk))
		if err != nil {
			return fmt.Errorf("check subject mapping: %w", err)
		}
		seen[p] = true
	}
	return nil
}

func (l *Log) probe(ctx context.Context, subject string) (partition int, err error) {
	msg := nats.NewMsg(subject)
	msg.Header.Set(jetstream.ExpectedStreamHeader, "none")
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := l.conn.nc.RequestMsgWithContext(ctx, msg)
	if errors.Is(err, nats.ErrNoResponders) {
		return 0, fmt.Errorf("%w: nothing takes %s: the server has no subject mapping usage.in.*.* onto these %d partitions (schema/log/README.md)", ErrSettings, subject, l.cfg.Partitions)
	}
	if err != nil {
		return 0, l.conn.unavailable(err)
	}
	var answer struct {
		Stream string `json:"stream"`
		Error  *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil || answer.Error == nil {
		return 0, fmt.Errorf("%w: unexpected answer to a probe of %s: %.200q", ErrSettings, subject, reply.Data)
	}
	if answer.Error.Code != errStreamNoMatch {
		return 0, fmt.Errorf("%w: a probe was answered: %s", ErrUnavailable, answer.Error.Description)
	}
	p, ok := partitionOf(answer.Stream)
	if !ok || p >= l.cfg.Partitions {
		return 0, fmt.Errorf("%w: the server maps %s to stream %s, which is none of the %d partitions", ErrSettings, subject, answer.Stream, l.cfg.Partitions)
	}
	return p, nil
}

func partitionOf(stream string) (int, bool) {
	digits, ok := strings.CutPrefix(stream, "USAGE_")
	p, err := strconv.Atoi(digits)
	return p, ok && err == nil && p >= 0
}

// Info is the state of one partition, as its leader sees it.
type Info struct {
	First, Last     uint64 // sequences; Last 0 when nothing was ever stored
	Bytes, MaxBytes int64  // MaxBytes -1 when unlimited
	Replicas        int
	Created         time.Time // changes when the stream is made anew
	Deleted         uint64    // sequences up to Last that are not there; nothing may be deleted: damage

	// Settled: every message that will ever bear an earlier timestamp is at or below Last.
	Settled time.Time
}

// Info asks the leader.
func (l *Log) Info(ctx context.Context, partition int) (Info, error) {
	if err := l.valid(partition); err != nil {
		return Info{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	asked := time.Now()
	stream, err := l.conn.js.Stream(ctx, streamName(partition))
	if err != nil {
		return Info{}, fmt.Errorf("info of partition %d: %w", partition, l.conn.apiError(err))
	}
	info := infoOf(stream.CachedInfo())
	if info.Settled.After(asked) {
		info.Settled = asked
	}
	return info, nil
}

// settleMargin: the leader reads its clock, which also stamps the messages, a moment after it has counted
// them. Messages stored in between may be a little older than that reading.
const settleMargin = time.Second

func infoOf(i *jetstream.StreamInfo) Info {
	return Info{
		First: i.State.FirstSeq, Last: i.State.LastSeq, Bytes: int64(i.State.Bytes),
		MaxBytes: i.Config.MaxBytes, Replicas: i.Config.Replicas, Created: i.Created,
		Deleted: uint64(i.State.NumDeleted) + max(i.State.FirstSeq, 1) - 1,
		Settled: i.TimeStamp.Add(-settleMargin - unheard(i)),
	}
}

// unheard is how long ago the leader last heard from so many of its replicas that nobody else can have been
// elected before: one that was cut off believes in itself for ten seconds more, while another takes
// messages that it does not know. A day if that is not known.
func unheard(i *jetstream.StreamInfo) time.Duration {
	if i.Cluster == nil || i.Config.Replicas < 2 {
		return 0
	}
	var ages []time.Duration
	for _, r := range i.Cluster.Replicas {
		if r.Current {
			ages = append(ages, r.Active)
		}
	}
	slices.Sort(ages)
	if need := i.Config.Replicas / 2; len(ages) >= need { // with the leader itself a majority
		return ages[need-1]
	}
	return 24 * time.Hour
}

// Get reads one message, as the leader has it.
func (l *Log) Get(ctx context.Context, partition int, seq uint64) (Message, error) {
	m, err := l.get(ctx, partition, getRequest{Seq: seq})
	if err != nil {
		return Message{}, fmt.Errorf("get %d of partition %d: %w", seq, partition, err)
	}
	return m, nil
}

// getRequest and getAnswer are those of the server's API.
type getRequest struct {
	Seq  uint64 `json:"seq"`
	Next string `json:"next_by_subj,omitempty"` // the first of such a subject from Seq on
}

type getAnswer struct {
	Error   *jetstream.APIError `json:"error"`
	Message *struct {
		Subject string    `json:"subject"`
		Seq     uint64    `json:"seq"`
		Header  []byte    `json:"hdrs"`
		Data    []byte    `json:"data"`
		Time    time.Time `json:"time"`
	} `json:"message"`
}

// get asks the leader, not whichever replica is next, as the client would: one that lags or is damaged
// would say "no such sequence" of a message that the log has.
func (l *Log) get(ctx context.Context, partition int, request getRequest) (Message, error) {
	if err := l.valid(partition); err != nil {
		return Message{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	question, err := json.Marshal(request)
	if err != nil {
		return Message{}, err
	}
	reply, err := l.conn.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+streamName(partition), question)
	if err != nil {
		return Message{}, l.conn.unavailable(err)
	}
	var answer getAnswer
	switch err := json.Unmarshal(reply.Data, &answer); {
	case err != nil:
		return Message{}, fmt.Errorf("%w: an answer that is none: %w", ErrUnavailable, err)
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return Message{}, ErrNotFound
	case answer.Error != nil:
		return Message{}, l.conn.apiError(answer.Error)
	case answer.Message == nil:
		return Message{}, fmt.Errorf("%w: an answer without a message", ErrUnavailable)
	}
	m := answer.Message
	header, err := nats.DecodeHeadersMsg(m.Header)
	if len(m.Header) > 0 && err != nil {
		return Message{}, fmt.Errorf("header: %w", err)
	}
	return newMessage(partition, m.Seq, m.Time, m.Subject, header, m.Data), nil
}

func (l *Log) valid(partition int) error {
	if partition < 0 || partition >= l.cfg.Partitions {
		return fmt.Errorf("%w: partition %d of %d", ErrSettings, partition, l.cfg.Partitions)
	}
	return nil
}

// apiError gives an answer of the JetStream API its class.
func (c *Conn) apiError(err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return c.unavailable(err)
	}
	switch {
	case api.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case api.Code >= 500:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
