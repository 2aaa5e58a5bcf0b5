package text

import "testing"

func TestPathIsQuotedIfItMustBe(t *testing.T) {
	for path, want := range map[string]string{
		"/srv/backups":                   "/srv/backups",
		"/mnt/Größe":                     "/mnt/Größe",
		"":                               `""`,
		"/a b":                           `"/a b"`,
		"/a\u00a0b":                      `"/a\u00a0b"`,
		`/a"b`:                           `"/a\"b"`,
		`/a\b`:                           `"/a\\b"`,
		"/a\nb":                          `"/a\nb"`,
		"/a\x80":                         `"/a\x80"`,
		"/a\u202eb":                      `"/a\u202eb"`,
		"/a,":                            `"/a,"`,
		"/a:":                            `"/a:"`,
		"/host/2023-11-14T22:13:20Z/x,y": "/host/2023-11-14T22:13:20Z/x,y",
	} {
		if got := Path(path); got != want {
			t.Errorf("%q is shown as %s, want %s", path, got, want)
		}
	}
}
