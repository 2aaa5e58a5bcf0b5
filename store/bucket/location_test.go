package bucket

import (
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct{ arg, bucket, store string }{
		{"s3://backups/tank", "backups", "tank"},
		{"s3://backups/tank/", "backups", "tank"},
		{"s3://my.backups-1/a_B.c", "my.backups-1", "a_B.c"},
		{"s3://backups", "", ""},
		{"s3://backups/", "", ""},
		{"s3:///tank", "", ""},
		{"s3://backups/tank/host", "", ""},
		{"s3://Backups/tank", "", ""},
		{"s3://back..ups/tank", "", ""},
		{"s3://backups/ta", "", ""},
		{"s3://backups/.tank", "", ""},
		{"s3://backups/t nk", "", ""},
		{"backups/tank", "", ""},
		{"S3://backups/tank", "", ""},
	}
	for _, tt := range tests {
		l, err := Parse(tt.arg)
		if (err == nil) != (tt.bucket != "") || err == nil && (l.Bucket != tt.bucket || l.Store != tt.store) {
			t.Errorf("Parse(%q) = %+v, %v", tt.arg, l, err)
		}
	}
}

func TestAt(t *testing.T) {
	tests := []struct {
		endpoint, region string
		pathStyle        bool
		want             string // server, region, style; "" for an error
	}{
		{"", "", false, "https://s3.us-east-1.amazonaws.com us-east-1 host"},
		{"", "eu-central-1", false, "https://s3.eu-central-1.amazonaws.com eu-central-1 host"},
		{"", "eu-central-1", true, "https://s3.eu-central-1.amazonaws.com eu-central-1 path"},
		{"https://minio:9000", "", false, "https://minio:9000 us-east-1 path"},
		{"https://minio:9000/", "", false, "https://minio:9000 us-east-1 path"},
		{"http://127.0.0.1:7070", "", false, "http://127.0.0.1:7070 us-east-1 path"},
		{"[::1]:7070", "", true, "https://[::1]:7070 us-east-1 path"},
		{"{{bucket}}.s3.{{region}}.example.com", "x-1", false, "https://s3.x-1.example.com x-1 host"},
		{"backups.example.com", "", false, "https://example.com us-east-1 host"},
		{"backups.example.com", "", true, "https://backups.example.com us-east-1 path"},
		{"example.com/{{bucket}}", "", false, ""},
		{"a.{{bucket}}.example.com", "", false, ""},
		{"ftp://example.com", "", false, ""},
		{"example.com:0", "", false, ""},
		{"example.com:99999", "", false, ""},
		{"exa mple.com", "", false, ""},
		{"user:secret@example.com", "", false, ""},
		{"https://", "", false, ""},
		{"example.com", "eu central", false, ""},
	}
	for _, tt := range tests {
		l, err := Location{Bucket: "backups", Store: "tank"}.At(tt.endpoint, tt.region, tt.pathStyle, "")
		got := ""
		if err == nil {
			got = fmt.Sprintf("%s %s %s", l.Server(), l.Region, map[bool]string{true: "path", false: "host"}[l.PathStyle])
		}
		if got != tt.want {
			t.Errorf("At(%q, %q, %v) = %q, %v; want %q", tt.endpoint, tt.region, tt.pathStyle, got, err, tt.want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	text := strings.TrimSuffix(strings.Repeat("aB:", 32), ":")
	f, err := ParseFingerprint(text)
	if err != nil || f.String() != strings.ToLower(text) {
		t.Errorf("%v, %v", f, err)
	}
	if plain, err := ParseFingerprint(strings.ReplaceAll(text, ":", "")); err != nil || plain != f {
		t.Errorf("without colons: %v, %v", plain, err)
	}
	for _, bad := range []string{"", "ab", text + ":ab", strings.Replace(text, "a", "g", 1)} {
		if _, err := ParseFingerprint(bad); err == nil {
			t.Errorf("ParseFingerprint(%q) is no error", bad)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	c := Credentials{AccessKey: "key", SecretKey: "s3cret"}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(form, c); strings.Contains(text, "s3cret") {
			t.Errorf("%s: %s", form, text)
		}
	}
}

func FuzzLocation(f *testing.F) {
	f.Add("s3://backups/tank", "https://{{bucket}}.s3.{{region}}.amazonaws.com:443", "eu-1")
	f.Add("s3://a-b/c_d", "[::1]:7070", "")
	f.Fuzz(func(t *testing.T, arg, endpoint, region string) {
		l, err := Parse(arg)
		if err != nil {
			return
		}
		if again, err := Parse(l.String()); err != nil || again != l {
			t.Errorf("Parse(%q) = %v, %v", l, again, err)
		}
		if at, err := l.At(endpoint, region, false, ""); err == nil && (at.Endpoint == "" || strings.ContainsAny(at.Endpoint, "/ {}@")) {
			t.Errorf("At(%q, %q) = %+v", endpoint, region, at)
		}
	})
}
