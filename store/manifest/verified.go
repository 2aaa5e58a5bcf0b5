package manifest

import (
	"strconv"
	"strings"
	"time"
)

// The id of a task of the server is UPID:node:pid:start of the process:number:start of
// the task:type:object:user:, with the times in hexadecimal digits.
const (
	upidPrefix = "UPID"
	upidStart  = 5 // the field with the start of the task, in seconds since 1970
	upidFields = 9
)

// VerifiedAt returns when the last verification that found nothing wrong was begun,
// and whether there is one. Like all that is not signed, anyone who can write to the
// datastore can change it.
func (m *Manifest) VerifiedAt() (time.Time, bool) {
	if m.VerifyState != "ok" {
		return time.Time{}, false
	}
	fields := strings.Split(m.VerifyTask, ":")
	if len(fields) < upidFields || fields[0] != upidPrefix {
		return time.Time{}, false
	}
	sec, err := strconv.ParseUint(fields[upidStart], 16, 32)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(int64(sec), 0), true
}
