package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/access"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/export"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/mountpoint"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/status"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/maint/cfg"
	"github.com/pbsfs/pbsfs/maint/device"
	"github.com/pbsfs/pbsfs/maint/text"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// sendJSON sends a value. An error means that the client did not read it.
func sendJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}

// fail answers with a message.
func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, message)
}

// message returns the text of an error, on one line unless it is a list.
func message(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = text.Printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

// errCutOff says that an answer was begun and cannot be finished.
var errCutOff = errors.New("the answer is cut off")

// errBusy says that too much is asked for at once.
var errBusy = errors.New("too many requests of this kind at once; try again later")

// errNoStore says that a datastore is not known.
var errNoStore = errors.New("no such datastore")

// errRemovable says that something is done with removable datastores only.
var errRemovable = errors.New("not a removable datastore")

// statuses is the table from errors to the status that HTTP has for them. The first line
// that matches counts; an error without a match is our own failure.
var statuses = []struct {
	err    error
	status int
}{
	{access.ErrNobody, http.StatusUnauthorized},
	{access.ErrNotAllowed, http.StatusForbidden},
	{access.ErrTooMany, http.StatusTooManyRequests},
	{errTooLong, http.StatusRequestEntityTooLarge},
	{errSlowBody, http.StatusRequestTimeout},
	{errBody, http.StatusBadRequest},
	{errBusy, http.StatusServiceUnavailable},
	{errNoStore, http.StatusNotFound},
	{errRemovable, http.StatusBadRequest},
	{errTokensOnly, http.StatusBadRequest},
	{maint.ErrOutdated, http.StatusBadRequest},
	{errStanding, http.StatusConflict},
	{maint.ErrTakenBack, http.StatusConflict},
	{cfg.ErrBadMode, http.StatusBadRequest},
	{cfg.ErrBadMessage, http.StatusBadRequest},
	{cfg.ErrNotConfigured, http.StatusBadRequest},
	{maint.ErrConflict, http.StatusConflict},
	{mountpoint.ErrActive, http.StatusConflict},
	{cfg.ErrUnmounting, http.StatusServiceUnavailable},
	{cfg.ErrDeleted, http.StatusServiceUnavailable},
	{cfg.ErrOffline, http.StatusServiceUnavailable},
	{cfg.ErrReadOnly, http.StatusServiceUnavailable},
	{maint.ErrUncounted, http.StatusServiceUnavailable},
	{device.ErrNoDevice, http.StatusServiceUnavailable},
	{store.ErrGone, http.StatusServiceUnavailable},
	{store.ErrBusy, http.StatusServiceUnavailable},
	{store.ErrS3Cache, http.StatusServiceUnavailable},
	{store.ErrNotDatastore, http.StatusServiceUnavailable},
	{context.DeadlineExceeded, http.StatusServiceUnavailable},
	{export.ErrLimit, http.StatusRequestEntityTooLarge},
	{store.ErrReplaced, http.StatusNotFound},
	{store.ErrKeyNeeded, http.StatusForbidden},
	{tree.ErrNoAccess, http.StatusForbidden},
	{store.ErrCorrupt, http.StatusInternalServerError},
	{name.ErrInvalid, http.StatusBadRequest},
	{syscall.ENOTDIR, http.StatusBadRequest},
	{syscall.EISDIR, http.StatusBadRequest},
	{errNotAFile, http.StatusBadRequest},
	{fs.ErrPermission, http.StatusForbidden},
}

// answerTo returns the status for an error, and what is sent instead of its text, if
// there is more to say.
func answerTo(err error) (int, any) {
	var wrong *badParam
	if errors.As(err, &wrong) {
		return http.StatusBadRequest, nil
	}
	for _, line := range statuses {
		if errors.Is(err, line.err) {
			return line.status, detail(err)
		}
	}
	// A missing file of the datastore is damage, which *store.Error reports. Only a name
	// that is not in the tree does not exist.
	var own *store.Error
	if errors.Is(err, fs.ErrNotExist) && !errors.As(err, &own) {
		return http.StatusNotFound, nil
	}
	return http.StatusInternalServerError, nil
}

// Refusal is the body of a refusal because of active operations.
type Refusal struct {
	Message string  `json:"message"`
	Data    Holders `json:"data"`
}

// Holders are who is in the way of a mode.
type Holders struct {
	Datastore string               `json:"datastore"`
	Type      string               `json:"type"`
	Set       bool                 `json:"set"` // whether the mode stands all the same
	Processes []maint.ProcessCount `json:"processes"`
	Open      []OpenIn             `json:"open"`
}

// OpenIn lists what is open in one mount.
type OpenIn struct {
	Mountpoint string          `json:"mountpoint"`
	Handles    []status.Handle `json:"handles"`
	Problem    string          `json:"problem,omitempty"`
}

// detail returns the holders of a refusal as data, nil for any other error.
func detail(err error) any {
	var active *status.InUse
	if !errors.As(err, &active) {
		return nil
	}
	return Refusal{message(err), holdersOf(active)}
}

func holdersOf(active *status.InUse) Holders {
	c := active.Conflict
	h := Holders{
		Datastore: active.Datastore, Type: string(c.Type), Set: c.Set,
		Processes: append([]maint.ProcessCount{}, c.Processes...), Open: []OpenIn{},
	}
	for _, o := range active.Open {
		in := OpenIn{Mountpoint: o.Mountpoint, Handles: append([]status.Handle{}, o.Handles...)}
		if o.Err != nil {
			in.Problem = o.Err.Error()
		}
		h.Open = append(h.Open, in)
	}
	return h
}
