package control

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

const (
	fileBucket    = "REPORTS"
	fileStream    = "OBJ_" + fileBucket
	filePieces    = "$O." + fileBucket + ".C."
	progress      = "PROGRESS"
	progressKept  = time.Hour
	filePieceSize = 128 << 10
)

// ErrNoFile: there is no file of that name, or it is not whole.
var ErrNoFile = errors.New("no such file")

// ErrFilesFull: the files there are take all the room they may.
var ErrFilesFull = errors.New("no room for more files")

// Files are the files that reports became, in the JetStream object store REPORTS.
//
// A name is used once. Put returns only when every piece is on the server's disk under it; whoever names the
// file elsewhere does so after that, which is what makes it visible: nobody ever sees a part of one.
type Files struct {
	conn *eventlog.Conn
	most int64

	mu    sync.Mutex // of what is looked up once
	store jetstream.ObjectStore
	told  jetstream.KeyValue
}

// Files opens the store; most bounds its bytes where it is made, 0 does not.
func (s *Store) Files(most int64) *Files { return &Files{conn: s.conn, most: most} }

// StoredFile is a file as it is stored.
type StoredFile struct {
	Name   string
	Bytes  int64
	SHA256 string // hexadecimal
	pieces string // the subject of its pieces
}

func (f *Files) known() (jetstream.ObjectStore, jetstream.KeyValue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.store, f.told
}

func (f *Files) know(what func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
}

// forget looks the buckets up again, and makes them where they are gone: something went wrong with them.
func (f *Files) forget() { f.know(func() { f.store, f.told = nil, nil }) }

func (f *Files) bucket(ctx context.Context) (jetstream.ObjectStore, error) {
	if store, _ := f.known(); store != nil {
		return store, nil
	}
	asking, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	js := f.conn.JetStream()
	store, err := js.ObjectStore(asking, fileBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		most := f.most
		if most == 0 {
			most = -1
		}
		store, err = js.CreateObjectStore(asking, jetstream.ObjectStoreConfig{
			Bucket: fileBucket, Description: "files of report jobs (internal/control)", Storage: jetstream.FileStorage, Replicas: f.conn.Replicas(), MaxBytes: most,
		})
		if errors.Is(err, jetstream.ErrBucketExists) {
			store, err = js.ObjectStore(asking, fileBucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("files: %w: %w", ErrUnavailable, err)
	}
	f.know(func() { f.store = store })
	return store, nil
}

// Put stores what r gives until its end. When it fails nothing is there, or something that List or Loose will find.
func (f *Files) Put(ctx context.Context, name string, r io.Reader) (StoredFile, error) {
	store, err := f.bucket(ctx)
	if err != nil {
		return StoredFile{}, err
	}
	info, err := store.Put(ctx, jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: filePieceSize}}, &fullReader{r})
	if err != nil {
		// The library names the object before it knows that every piece arrived.
		tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		_ = store.Delete(tidy, name) // else List has it, and nobody names it
		f.forget()
		return StoredFile{}, fmt.Errorf("store file %s: %w", name, fileFault(err))
	}
	return stored(info), nil
}

// fileFault tells a store that is full from one that does not answer.
func fileFault(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && (api.Code == 400 || api.Code == 503) && strings.Contains(api.Description, "maximum bytes"),
		errors.As(err, &api) && (strings.Contains(api.Description, "insufficient") || strings.Contains(api.Description, "no space")):
		return fmt.Errorf("%w: %w", ErrFilesFull, err)
	case errors.As(err, &api), errors.Is(err, context.DeadlineExceeded), errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func stored(info *jetstream.ObjectInfo) StoredFile {
	digest, _ := base64.URLEncoding.DecodeString(strings.TrimPrefix(info.Digest, "SHA-256="))
	return StoredFile{info.Name, int64(info.Size), hex.EncodeToString(digest), filePieces + info.NUID}
}

// fullReader fills every buffer it is given: each read becomes one message.
type fullReader struct{ io.Reader }

func (r *fullReader) Read(b []byte) (int, error) {
	n, err := io.ReadFull(r.Reader, b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// Open reads a file. Its last read fails if the bytes are not those of its SHA-256. The caller closes it.
func (f *Files) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	store, err := f.bucket(ctx)
	if err != nil {
		return nil, err
	}
	r, err := store.Get(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, ErrNoFile
	}
	if err != nil {
		f.forget()
		return nil, fmt.Errorf("read file %s: %w: %w", name, ErrUnavailable, err)
	}
	return r, nil
}

// Remove takes a file away; one that is not there already is.
func (f *Files) Remove(ctx context.Context, name string) error {
	store, err := f.bucket(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := store.Delete(ctx, name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return fmt.Errorf("remove file %s: %w: %w", name, ErrUnavailable, err)
	}
	return nil
}

// List are all files.
func (f *Files) List(ctx context.Context) ([]StoredFile, error) {
	store, err := f.bucket(ctx)
	if err != nil {
		return nil, err
	}
	infos, err := store.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		f.forget()
		return nil, fmt.Errorf("list files: %w: %w", ErrUnavailable, err)
	}
	var all []StoredFile
	for _, info := range infos {
		all = append(all, stored(info))
	}
	return all, nil
}

// Loose are pieces that belong to none of the files there were (List), with how many there are of each: of a writer
// that died, of one that is at work right now, or of a file that was finished since.
func (f *Files) Loose(ctx context.Context, all []StoredFile) (map[string]uint64, error) {
	handle, err := f.conn.JetStream().Stream(ctx, fileStream)
	if err != nil {
		return nil, fmt.Errorf("pieces of files: %w: %w", ErrUnavailable, err)
	}
	info, err := handle.Info(ctx, jetstream.WithSubjectFilter(filePieces+">"))
	if err != nil {
		return nil, fmt.Errorf("pieces of files: %w: %w", ErrUnavailable, err)
	}
	loose := info.State.Subjects
	for _, one := range all {
		delete(loose, one.pieces)
	}
	return loose, nil
}

// Purge takes pieces away that Loose named.
func (f *Files) Purge(ctx context.Context, pieces string) error {
	handle, err := f.conn.JetStream().Stream(ctx, fileStream)
	if err == nil {
		err = handle.Purge(ctx, jetstream.WithPurgeSubject(pieces))
	}
	if err != nil {
		return fmt.Errorf("pieces of files: %w: %w", ErrUnavailable, err)
	}
	return nil
}

// Progress tells others how far a job is. It is worth nothing an hour later, and is not kept longer.
func (f *Files) Progress(ctx context.Context, tenant, job string, rows int64) error {
	kv, err := f.progress(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := kv.PutString(ctx, tenant+"."+job, fmt.Sprint(rows)); err != nil {
		f.forget()
		return fmt.Errorf("progress: %w: %w", ErrUnavailable, err)
	}
	return nil
}

// Reached is how far a job was when it was last told; 0 if nobody told.
func (f *Files) Reached(ctx context.Context, tenant, job string) (rows int64, err error) {
	kv, err := f.progress(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	entry, err := kv.Get(ctx, tenant+"."+job)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		f.forget()
		return 0, fmt.Errorf("progress: %w: %w", ErrUnavailable, err)
	}
	if _, err := fmt.Sscan(string(entry.Value()), &rows); err != nil {
		return 0, fmt.Errorf("progress %q: %w", entry.Value(), err)
	}
	return rows, nil
}

func (f *Files) progress(ctx context.Context) (jetstream.KeyValue, error) {
	if _, told := f.known(); told != nil {
		return told, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := f.conn.JetStream().KeyValue(ctx, progress)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = f.conn.JetStream().CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: progress, Description: "how far report jobs are (internal/control)", History: 1, TTL: progressKept, Storage: jetstream.MemoryStorage,
		})
	}
	if err != nil {
		return nil, fmt.Errorf("progress: %w: %w", ErrUnavailable, err)
	}
	f.know(func() { f.told = kv })
	return kv, nil
}
