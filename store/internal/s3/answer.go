package s3

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
)

// errNoListing says that an answer is none to the request for a listing.
var errNoListing = errors.New("its answer is no listing")

// strict refuses answers that are no listings where one was asked for. The library would
// take any XML, such as the page of a proxy, for a listing without objects, and a datastore
// would look empty.
type strict struct{ http.RoundTripper }

// maxAnswer is how long a listing of a thousand keys can be, and more.
const maxAnswer = 8 << 20

// maxKey is how long a key can be.
const maxKey = 1024

// listingHead is how far the beginning of a listing may be from the beginning of the answer.
const listingHead = 1024

func (s strict) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := s.RoundTripper.RoundTrip(r)
	if err != nil || answer.StatusCode != http.StatusOK || !r.URL.Query().Has("list-type") {
		return answer, err
	}
	body := bufio.NewReaderSize(answer.Body, listingHead)
	head, err := body.Peek(listingHead)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = answer.Body.Close()
		return nil, err
	}
	if !bytes.Contains(head, []byte("<ListBucketResult")) {
		_ = answer.Body.Close()
		return nil, errNoListing
	}
	answer.Body = readCloser{&atMost{body, maxAnswer}, answer.Body}
	return answer, nil
}

// readCloser reads from one and closes the other.
type readCloser struct {
	io.Reader
	io.Closer
}

// atMost fails where a listing is longer than any can be. It would be in memory as a whole.
type atMost struct {
	r    io.Reader
	left int64
}

func (a *atMost) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if a.left -= int64(n); a.left < 0 {
		return 0, errNoListing
	}
	return n, err
}
