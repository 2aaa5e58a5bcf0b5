package s3

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/minio/minio-go/v7"
)

// Kind is what keeps a datastore in a bucket from being read.
type Kind string

// The kinds.
const (
	Unreachable Kind = "unreachable" // no such host, or nobody listens there
	Silent      Kind = "silent"      // connected, and no answer
	Certificate Kind = "certificate" // not the server that it should be
	Denied      Kind = "denied"      // the access key, or what it may do
	Skewed      Kind = "skewed"      // the clock here or there is wrong
	Region      Kind = "region"      // signed for another region
	NoBucket    Kind = "bucket"      // no such bucket
	Busy        Kind = "busy"        // the server puts requests off
	Garbled     Kind = "garbled"     // not what an S3 server answers
)

// Error says why the server did not give what it was asked for.
type Error struct {
	Server string
	Kind   Kind
	Err    error
}

// hints say what to do, by kind.
var hints = map[Kind]string{
	Unreachable: "is --endpoint right, and the server up?",
	Silent:      "is the server up?",
	Denied:      "the key needs s3:ListBucket on the bucket and s3:GetObject below the datastore's name",
	Skewed:      "set the clock of this machine",
	Region:      "give the right one with --region",
	NoBucket:    "is the name right, and --path-style?",
	Busy:        "it asks to be left alone; try later",
	Garbled:     "is there an S3 server, and is it https or http?",
}

// Error names the server, the cause, and what to do.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %v", e.Server, e.Err)
	if hint := hints[e.Kind]; hint != "" {
		text += "; " + hint
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// passes reports whether the same request may succeed a moment later.
func (e *Error) passes() bool {
	return e.Kind == Unreachable || e.Kind == Busy || e.Kind == Garbled
}

// Away reports whether the datastore is not there, and not merely closed to us.
func (e *Error) Away() bool {
	return e.Kind == Unreachable || e.Kind == Silent || e.Kind == NoBucket || e.Kind == Busy
}

// explain turns an error of the library into one of ours. what is the object or prefix
// that was asked for.
func (c *client) explain(ctx context.Context, what string, err error) error {
	err = c.understand(ctx, what, err)
	var own *Error
	if errors.As(err, &own) {
		c.reached(own)
	}
	return err
}

func (c *client) understand(ctx context.Context, what string, err error) error {
	var own *Error
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.As(err, &own) {
		return err
	}
	kind, text := classify(err)
	if kind == "" {
		return fmt.Errorf("%s: %w", what, fs.ErrNotExist)
	}
	return &Error{Server: c.at.Server(), Kind: kind, Err: because(text, err)}
}

// because adds the innermost cause to a text: the URL around it says nothing new.
func because(text string, err error) error {
	var certificate *certificateError
	if errors.As(err, &certificate) {
		return certificate
	}
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	return fmt.Errorf("%s: %w", text, err)
}

// codes say what the codes of answers mean.
var codes = map[string]struct {
	kind Kind
	text string
}{
	"NoSuchBucket":                 {NoBucket, "there is no such bucket"},
	"InvalidBucketName":            {NoBucket, "there is no such bucket"},
	"AccessDenied":                 {Denied, "access is denied"},
	"AllAccessDisabled":            {Denied, "access is denied"},
	"InvalidAccessKeyId":           {Denied, "the access key is not known"},
	"XAdminUserNotFound":           {Denied, "the access key is not known"}, // of versitygw
	"SignatureDoesNotMatch":        {Denied, "the secret key is wrong"},
	"ExpiredToken":                 {Denied, "the credentials have expired"},
	"InvalidToken":                 {Denied, "the credentials are not valid"},
	"RequestTimeTooSkewed":         {Skewed, "its clock and ours differ too much"},
	"AuthorizationHeaderMalformed": {Region, "the region is wrong"},
	"PermanentRedirect":            {Region, "the bucket is in another region"},
	"IllegalLocationConstraint":    {Region, "the region is wrong"},
	"SlowDown":                     {Busy, "it is overloaded"},
	"SlowDownRead":                 {Busy, "it is overloaded"},
	"ServiceUnavailable":           {Busy, "it is overloaded"},
	"TooManyRequests":              {Busy, "it is overloaded"},
	"InternalError":                {Busy, "it has failed"},
}

// classify says what an error means. The kind is "" if an object does not exist.
func classify(err error) (Kind, string) {
	var certificate *certificateError
	var dns *net.DNSError
	var record tls.RecordHeaderError
	var syntax *xml.SyntaxError
	switch {
	case errors.As(err, &certificate):
		return Certificate, "it is not trusted"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return Garbled, "it does not speak TLS"
	case errors.As(err, &dns):
		return Unreachable, "its name is not known"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Unreachable, "nobody listens there"
	case errors.Is(err, errNoListing), errors.As(err, &syntax):
		return Garbled, "its answer cannot be understood"
	}
	answer := minio.ToErrorResponse(err)
	switch answer.Code {
	case "NoSuchKey", "NotFound", "NoSuchVersion":
		return "", ""
	}
	if known, ok := codes[answer.Code]; ok {
		return known.kind, known.text
	}
	switch answer.StatusCode {
	case http.StatusForbidden, http.StatusUnauthorized:
		return Denied, "access is denied"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusInternalServerError:
		return Busy, "it has failed"
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		return Region, "the bucket is in another region"
	case 0:
		return Unreachable, "the connection has failed"
	}
	return Garbled, "its answer is not that of an S3 server"
}
