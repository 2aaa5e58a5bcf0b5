package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/pbsfs/pbsfs/store/bucket"
)

// says answers each request with the same.
type says struct {
	status int
	text   []byte
}

func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: http.StatusText(s.status), StatusCode: s.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(bytes.NewReader(s.text)), ContentLength: int64(len(s.text)),
	}, nil
}

// answering is a bucket whose server has one answer to everything.
func answering(t *testing.T, status int, text []byte) *Bucket {
	t.Helper()
	b, err := New(Options{
		At: bucket.Location{Endpoint: "127.0.0.1:1", Bucket: "bucket", Store: "tank", Region: "r", Plain: true, PathStyle: true}, Parallel: 1,
		Credentials: bucket.Credentials{AccessKey: "a", SecretKey: "b"}, Refresh: time.Second, Patience: time.Second,
	})
	if err == nil {
		b.c.core, err = minio.NewCore("127.0.0.1:1", &minio.Options{
			Creds: credentials.NewStaticV4("a", "b", ""), Transport: strict{says{status, text}}, Region: "r", BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	listingBegin = `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`
	oneKey       = `<Contents><Key>tank/.cnt/vm/100/2023-11-14T22:30:00Z/index.json.blob</Key><Size>5</Size><LastModified>2023-11-14T22:30:00.000Z</LastModified></Contents>`
	listingEnd   = `</ListBucketResult>`
)

// A server that answers with keys or listings that are longer than any can be is refused: none
// of it is kept.
func TestListingsOfAnyLengthAreRefused(t *testing.T) {
	for what, text := range map[string]string{
		"a long key":     listingBegin + strings.Replace(oneKey, "vm/100/", "vm/100/"+strings.Repeat("a/", 1<<20), 1) + listingEnd,
		"a long listing": listingBegin + strings.Repeat("<!-- nothing -->", maxAnswer/16) + listingEnd,
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			got, err := answering(t, http.StatusOK, []byte(text)).List(ctx, "vm/100")
			var own *Error
			if !errors.As(err, &own) || own.Kind != Garbled {
				t.Errorf("%s: %d entries, %v, want that the answer is none", what, len(got), err)
			}
		})
	}
}

// FuzzListing has a server answer whatever it answers: a listing has names, or is an error, and
// there is an end.
func FuzzListing(f *testing.F) {
	f.Add(uint16(200), []byte(listingBegin+oneKey+listingEnd))
	f.Add(uint16(200), []byte(listingBegin+oneKey+`<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>`+listingEnd))
	f.Add(uint16(200), []byte(listingBegin+`<CommonPrefixes><Prefix>tank/.cnt/vm/</Prefix></CommonPrefixes><EncodingType>url</EncodingType>`+listingEnd))
	f.Add(uint16(403), []byte(`<Error><Code>SignatureDoesNotMatch</Code><Message>x</Message></Error>`))
	f.Add(uint16(503), []byte(`<Error><Code>SlowDown</Code></Error>`))
	f.Add(uint16(200), []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status uint16, text []byte) {
		synctest.Test(t, func(t *testing.T) {
			b := answering(t, 100+int(status)%500, text)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // of the bubble: nobody waits for it
			defer cancel()
			for _, dir := range []string{".", "vm", "vm/100"} {
				entries, err := b.List(ctx, dir)
				if ctx.Err() != nil {
					t.Fatalf("%s: it does not end", dir)
				}
				for _, e := range entries {
					if e.Name == "" || strings.Contains(e.Name, "/") || err != nil {
						t.Errorf("%s: %q is listed, %v", dir, e.Name, err)
					}
				}
			}
		})
	})
}
