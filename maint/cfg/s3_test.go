package cfg

import (
	"errors"
	"strings"
	"testing"
)

const endpoints = `s3-endpoint: aws
	access-key AK
	endpoint {{bucket}}.s3.{{region}}.amazonaws.com
	provider-quirks skip-if-none-match-header
	region eu-central-1
	secret-key SK

s3-endpoint: local
	port 7443
	access-key pbs
	endpoint 127.0.0.1
	fingerprint EC:E3
	path-style true
	secret-key secret
	what-comes-later 1

s3-endpoint: none
	access-key x
`

func TestFindEndpoint(t *testing.T) {
	tests := []struct {
		id   string
		want S3Endpoint
	}{
		{"aws", S3Endpoint{Host: "{{bucket}}.s3.{{region}}.amazonaws.com", Region: "eu-central-1", AccessKey: "AK", SecretKey: "SK"}},
		{"local", S3Endpoint{Host: "127.0.0.1:7443", Region: "us-west-1", AccessKey: "pbs", SecretKey: "secret", PathStyle: true, Fingerprint: "EC:E3"}},
	}
	for _, tt := range tests {
		if got, err := FindEndpoint([]byte(endpoints), tt.id); err != nil || got != tt.want {
			t.Errorf("FindEndpoint(%s) = %+v, %v; want %+v", tt.id, got, err, tt.want)
		}
	}
	if _, err := FindEndpoint([]byte(endpoints), "other"); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("another one: %v", err)
	}
	if _, err := FindEndpoint([]byte(endpoints), "none"); err == nil || errors.Is(err, ErrNoEndpoint) {
		t.Errorf("one without an endpoint: %v", err)
	}
}

func TestEndpointsAreWrittenAndRemoved(t *testing.T) {
	want := S3Endpoint{Host: "10.0.0.1:9000", Region: "r-1", AccessKey: "a", SecretKey: "b", PathStyle: true, Fingerprint: "00:11"}
	for _, before := range []string{"", endpoints, strings.TrimSuffix(endpoints, "\n")} {
		file := WithEndpoint([]byte(before), "new", S3Endpoint{Host: "x", AccessKey: "y"})
		file = WithEndpoint(file, "new", want)
		if got, err := FindEndpoint(file, "new"); err != nil || got != want {
			t.Errorf("%q: %+v, %v", file, got, err)
		}
		if before != "" {
			if _, err := FindEndpoint(file, "aws"); err != nil {
				t.Errorf("%q: %v", file, err)
			}
		}
		if _, err := FindEndpoint(WithoutEndpoint(file, "new"), "new"); !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("still there: %v", err)
		}
	}
}

func TestHostsAndPortsOfEndpoints(t *testing.T) {
	for _, host := range []string{"a.example.com", "a.example.com:9000", "{{bucket}}.a", "[::1]:80", "[::1]", "10.0.0.1"} {
		file := WithEndpoint(nil, "new", S3Endpoint{Host: host})
		if got, err := FindEndpoint(file, "new"); err != nil || got.Host != host {
			t.Errorf("%s: %+v, %v", host, got, err)
		}
	}
}

func FuzzEndpoints(f *testing.F) {
	f.Add([]byte(endpoints), "aws")
	f.Add([]byte("s3-endpoint: a\n endpoint x\n"), "a")
	f.Fuzz(func(t *testing.T, file []byte, id string) {
		if e, err := FindEndpoint(file, id); err == nil && e.Host == "" {
			t.Errorf("%+v", e)
		}
		if _, err := FindEndpoint(WithoutEndpoint(file, id), id); err == nil && strings.Count(string(file), id) < 2 {
			t.Error("still there")
		}
	})
}

func TestBackendsInBuckets(t *testing.T) {
	c := ParseConfig([]byte("datastore: cloud\n\tpath /c\n\tbackend bucket=b,client=c,type=s3,max-cache-size=1GiB\n\ndatastore: odd\n\tpath /o\n\tbackend s3\n\ndatastore: plain\n\tpath /p\n"))
	list := c.Datastores("file")
	if len(list) != 3 || !list[0].S3() || list[0].Bucket != "b" || list[0].Client != "c" || !list[1].S3() || list[1].Bucket != "" || list[2].S3() {
		t.Errorf("%+v", list)
	}
	again := ParseConfig(ParseConfig(nil).Added(Datastore{Name: "cloud", Path: "/c", Backend: "s3", Client: "c", Bucket: "b"})).Datastores("file")
	if len(again) != 1 || again[0].Bucket != "b" || again[0].Client != "c" || !again[0].S3() {
		t.Errorf("written: %+v", again)
	}
}
