package integration

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// damaged is a server, and a mount, of a datastore in which a chunk of an index is damaged
// by how.
func damaged(t *testing.T, index string, how func(*testing.T, string)) (b beside, digest string) {
	t.Helper()
	store := copyFixture(t, "ds-basic")
	digest = ownDigest(t, store, index)
	how(t, chunkPath(store, digest))
	return serveBeside(t, store, nil), digest
}

// inProblems checks that the damage is among the problems of the datastore, wherever they
// are listed.
func (b beside) inProblems(digest string) {
	b.t.Helper()
	listed := func(s status) bool {
		for _, p := range s.Problems {
			if strings.Contains(p.Text, digest) && !p.Time.IsZero() {
				return true
			}
		}
		return false
	}
	eventually(b.t, "the damage in the list of problems", func() error {
		if s := b.host.status(); !listed(s) {
			return unlike("the status is %+v", s)
		}
		return nil
	})
	var all []status
	b.get("pbsfs/status", params{"store": tank}).into(&all)
	if len(all) != 1 || !listed(all[0]) {
		b.t.Errorf("the API tells %+v, want the damage", all)
	}
	if n := strings.Count(b.output(), digest); n != 1 {
		b.t.Errorf("the damage is %d times in the log, want one line for one cause:\n%s", n, b.output())
	}
}

// protocols are the ways to speak with the server.
var protocols = map[string]func(*http.Client){
	"HTTP/1.1": func(c *http.Client) {
		tr := c.Transport.(*http.Transport)
		tr.ForceAttemptHTTP2 = false
		tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
	},
	"HTTP/2": func(*http.Client) {},
}

// A download that meets damage is cut off, so that no client takes what it got for the
// whole: of a file, whose length was announced, and of archives, which have no end then.
func TestServeCutsOffWhatIsDamaged(t *testing.T) {
	needRoot(t)
	for protocol, speak := range protocols {
		t.Run(protocol, func(t *testing.T) {
			image, digest := damaged(t, vm100+"/drive-scsi0.img.fidx", remove)
			image.t = t
			image.client = &http.Client{Transport: image.host.transport("")}
			speak(image.client)
			a := image.tryGet("download-decoded", imageDownload(t))
			if a.status != http.StatusOK || a.err == nil {
				t.Errorf("the image: got status %d and %d bytes with %v, want that it is cut off", a.status, len(a.body), a.err)
			}
			whole := truthOf(t, "ds-basic", diskImage).entries[0].Size
			if int64(len(a.body)) >= whole {
				t.Errorf("the image: got all %d bytes of it", whole)
			}
			image.inProblems(digest)

			tree, digest := damaged(t, bravo+"/root.pxar.didx", flip)
			tree.t = t
			tree.client = &http.Client{Transport: tree.host.transport("")}
			speak(tree.client)
			p := snapshotParams(t, bravo).and(params{"filepath": filepathOf("root.pxar.didx")})
			for format, incomplete := range map[string]func([]byte) error{"": openZip, "1": openTar} {
				with := p
				if format != "" {
					with = p.and(params{"tar": format})
				}
				a := tree.tryGet("pxar-file-download", with)
				if a.status != http.StatusOK || a.err == nil {
					t.Errorf("tar=%s: got status %d and %d bytes with %v, want that it is cut off", format, a.status, len(a.body), a.err)
				}
				if incomplete(a.body) == nil {
					t.Errorf("tar=%s: what came before it was cut off is a whole archive", format)
				}
			}
			tree.inProblems(digest)
			// Something else of the datastore is as it was.
			tree.get(at("pxar-file-download"), snapshotParams(t, alpha).and(params{"filepath": filepathOf("etc.pxar.didx")})).want(http.StatusOK)
		})
	}
}

// tryGet asks for something that may be cut off.
func (b beside) tryGet(operation string, p params) *answer {
	b.t.Helper()
	return b.try(b.request("GET", apiBase+at(operation)+"?"+p.encode(), "", nil))
}

func openZip(body []byte) error {
	_, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	return err
}

func openTar(body []byte) error {
	z, err := zstd.NewReader(bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer z.Close()
	for in := tar.NewReader(z); ; {
		if _, err = in.Next(); err != nil {
			break
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	_, err = io.Copy(io.Discard, z)
	return err
}

// The files that cannot be read in the mount are those that cannot be downloaded; and
// whoever asks for one learns why, or gets a part that ends with an error.
func TestServeFailsWhereTheMountFails(t *testing.T) {
	needRoot(t)
	b, chunk := damaged(t, bravo+"/root.pxar.didx", flip)
	failed := 0
	a := truthOf(t, "ds-basic", bravo+"/root.pxar")
	for _, e := range a.entries {
		if e.Type != "file" {
			continue
		}
		_, err := digest(b.mount.path(a.name, string(*e.Path)))
		got := b.tryGet("pxar-file-download", snapshotParams(t, bravo).and(params{"filepath": filepathOf("root.pxar.didx", string(*e.Path))}))
		switch {
		case err == nil && (got.err != nil || got.status != http.StatusOK || int64(len(got.body)) != e.Size):
			t.Errorf("%s: can be read in the mount, and the download gives %d, %v", *e.Path, got.status, got.err)
		case err == nil:
		case !errors.Is(err, unix.EIO):
			t.Errorf("%s: %v", *e.Path, err)
		case got.err == nil && got.status == http.StatusOK:
			t.Errorf("%s: cannot be read in the mount, and the download gives %d bytes of %d", *e.Path, len(got.body), e.Size)
		default:
			failed++
			if got.err == nil {
				got.want(http.StatusInternalServerError).says(chunk, bravo, "root.pxar.didx")
			}
		}
	}
	if failed == 0 {
		t.Error("everything could be read")
	}
	b.inProblems(chunk)
}

// What is damaged as a whole is an error of its own and not of its neighbours, and the
// list goes on.
func TestServeListsAroundDamage(t *testing.T) {
	store := copyFixture(t, "ds-basic")
	flip(t, filepath.Join(store, alpha, "index.json.blob"))
	halve(t, filepath.Join(store, vm100, "qemu-server.conf.blob"))
	remove(t, filepath.Join(store, "vm/100/2023-11-17T05:46:40Z/drive-scsi0.img.fidx"))
	s := servesTank(t, store)
	read := s.as("read")
	var snaps []struct {
		Time    int64 `json:"backup-time"`
		Size    *int64
		Problem string
	}
	p := snapshotParams(t, alpha)
	delete(p, "backup-time")
	read.get(at("snapshots"), p).into(&snaps)
	problems := 0
	for _, s := range snaps {
		if s.Problem != "" {
			problems++
			if s.Size != nil || !strings.Contains(s.Problem, alpha) {
				t.Errorf("the snapshot whose manifest is damaged is %+v", s)
			}
		}
	}
	if len(snaps) != 3 || problems != 1 {
		t.Errorf("got %+v, want three snapshots, one with a problem", snaps)
	}
	read.get(at("groups"), nil).want(http.StatusOK)
	read.get(at("files"), snapshotParams(t, alpha)).refused(http.StatusInternalServerError, alpha, "index.json.blob")
	read.get(at("catalog"), snapshotParams(t, alpha).and(params{"filepath": filepathOf("etc.pxar.didx")})).refused(http.StatusInternalServerError, alpha)
	read.get(at("download-decoded"), snapshotParams(t, vm100).and(params{"file-name": "qemu-server.conf.blob"})).refused(http.StatusInternalServerError, vm100, "qemu-server.conf.blob")
	missing := snapshotParams(t, "vm/100/2023-11-17T05:46:40Z").and(params{"file-name": "drive-scsi0.img.fidx"})
	read.get(at("download-decoded"), missing).refused(http.StatusInternalServerError, "drive-scsi0.img.fidx") // the manifest has it: it is damage
	eventually(t, "three problems", func() error {
		if got := s.host.status().Problems; len(got) != 3 {
			return unlike("there are %+v", got)
		}
		return nil
	})
}
