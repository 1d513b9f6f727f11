package audit

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// Formats of Export.
const (
	FormatJSON = "jsonl"
	FormatCSV  = "csv"
	FormatOCSF = "ocsf"
)

// Formats lists them.
var Formats = []string{FormatOCSF, FormatJSON, FormatCSV}

// Export writes records. Version is this program's.
func Export(w io.Writer, format, version string, list iter.Seq2[*Record, error]) error {
	if format == FormatCSV {
		return exportCSV(w, list)
	}
	encoder := json.NewEncoder(w)
	for r, err := range list {
		if err != nil {
			return err
		}
		var v any = r
		if format == FormatOCSF {
			v = ocsf(r, version)
		}
		if err := encoder.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

// columns are those of a table of records.
var columns = []struct {
	name string
	of   func(*Record) string
}{
	{"seq", func(r *Record) string { return strconv.FormatUint(r.Seq, 10) }},
	{"time", func(r *Record) string { return r.Time.Format(time.RFC3339Nano) }},
	{"kind", func(r *Record) string { return string(r.Kind) }},
	{"id", func(r *Record) string { return r.ID }},
	{"client_id", func(r *Record) string { return r.ClientID }},
	{"key", func(r *Record) string { return r.who().Key }},
	{"name", func(r *Record) string { return r.who().Name }},
	{"tenant", func(r *Record) string { return r.who().Tenant }},
	{"client", func(r *Record) string { return r.who().Client }},
	{"address", func(r *Record) string { return r.Address }},
	{"method", func(r *Record) string { return r.Method }},
	{"route", func(r *Record) string { return r.Route }},
	{"models", func(r *Record) string { return strings.Join(r.Models(), " ") }},
	{"tokens_in", func(r *Record) string { in, _, _ := r.tokens(); return number(in) }},
	{"tokens_cached", func(r *Record) string { _, cached, _ := r.tokens(); return number(cached) }},
	{"tokens_out", func(r *Record) string { _, _, out := r.tokens(); return number(out) }},
	{"finish", func(r *Record) string { return strings.Join(r.finishes(), " ") }},
	{"status", func(r *Record) string { return number(r.Status) }},
	{"error", func(r *Record) string { return r.Error }},
	{"duration_ms", func(r *Record) string { return strconv.FormatFloat(r.Duration, 'f', -1, 64) }},
	{"object", func(r *Record) string { return r.Object }},
	{"count", func(r *Record) string { return number(int(r.Count)) }},
}

// number writes a number; 0 is nothing.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func (r *Record) who() *Who {
	if r.Who == nil {
		return new(Who)
	}
	return r.Who
}

// tokens returns those of all works together.
func (r *Record) tokens() (in, cached, out int) {
	for i := range r.Work {
		in += r.Work[i].In
		cached += r.Work[i].Cached
		out += r.Work[i].Out
	}
	return in, cached, out
}

func (r *Record) finishes() (list []string) {
	for i := range r.Work {
		list = append(list, r.Work[i].Finish...)
	}
	return list
}

func exportCSV(w io.Writer, list iter.Seq2[*Record, error]) error {
	table := csv.NewWriter(w)
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = c.name
	}
	if err := table.Write(row); err != nil {
		return err
	}

	for r, err := range list {
		if err != nil {
			return err
		}
		for i, c := range columns {
			row[i] = c.of(r)
			// A spreadsheet would compute it.
			if row[i] != "" && strings.ContainsRune("=+-@\t\r", rune(row[i][0])) {
				row[i] = "'" + row[i]
			}
		}
		if err := table.Write(row); err != nil {
			return err
		}
	}

	table.Flush()
	return table.Error()
}

// What OCSF calls what is in records: https://schema.ocsf.io/1.8.0/classes/api_activity?profiles=ai_operation
const (
	ocsfVersion  = "1.8.0"
	ocsfCategory = 6    // Application Activity
	ocsfClass    = 6003 // API Activity

	ocsfCreate = 1
	ocsfRead   = 2
	ocsfUpdate = 3
	ocsfDelete = 4
	ocsfOther  = 99

	ocsfSuccess = 1
	ocsfFailure = 2

	ocsfInformational = 1
	ocsfLow           = 2
	ocsfMedium        = 3
)

// ocsfActivity returns what kind of activity a record is about.
func ocsfActivity(r *Record) (id int, name string) {
	switch r.Kind {
	case KeyCreated, ModelPulled, ModelLoaded, ServerStart:
		return ocsfCreate, "Create"
	case KeyRotated, KeyChanged, ModelNamed:
		return ocsfUpdate, "Update"
	case KeyRevoked, KeyRemoved, KeyExpired, ModelDeleted, ModelUnloaded, ServerStop, LogPruned:
		return ocsfDelete, "Delete"
	case RequestBegin, RequestEnd, Request, RequestLost, RequestsRefused:
	default:
		return ocsfOther, string(r.Kind)
	}
	switch r.Method {
	case "GET", "HEAD":
		return ocsfRead, "Read"
	case "DELETE":
		return ocsfDelete, "Delete"
	case "POST", "PUT":
		return ocsfCreate, "Create"
	}
	return ocsfOther, string(r.Kind)
}

// object is one of JSON.
type object map[string]any

// ocsf returns a record as an event of OCSF's class API Activity. What that has no attribute for is in unmapped.
func ocsf(r *Record, version string) object {
	id, name := ocsfActivity(r)
	status, statusName, severity := ocsfOutcome(r)
	event := object{
		"category_uid":  ocsfCategory,
		"category_name": "Application Activity",
		"class_uid":     ocsfClass,
		"class_name":    "API Activity",
		"activity_id":   id,
		"activity_name": name,
		"type_uid":      ocsfClass*100 + id,
		"time":          r.Time.UnixMilli(),
		"severity_id":   severity,
		"status_id":     status,
		"status":        statusName,
		"actor":         ocsfActor(r),
		"api":           ocsfAPI(r),
		"src_endpoint":  object{"svc_name": "serve"},
		"unmapped":      object{"record": r},
	}
	if r.Address != "" {
		event["src_endpoint"] = object{"ip": r.Address}
	}
	if r.Error != "" {
		event["status_detail"] = r.Error
	}
	if r.Duration > 0 {
		event["duration"] = int64(r.Duration)
	}
	if r.Count > 0 {
		event["count"] = r.Count
	}
	if r.Object != "" {
		event["resources"] = []object{{"name": r.Object, "type": strings.Split(string(r.Kind), ".")[0]}}
	}
	if r.Method != "" {
		event["http_request"] = object{"http_method": r.Method, "url": object{"path": r.Route}}
	}

	profiles := []string{}
	if len(r.Work) > 0 {
		profiles = append(profiles, "ai_operation")
		ocsfWork(event, r)
	}
	event["metadata"] = object{
		"version":  ocsfVersion,
		"product":  object{"name": "serve", "vendor_name": "serve", "version": version},
		"profiles": profiles,
		"sequence": r.Seq,
		"uid":      strconv.FormatUint(r.Seq, 10),
		"log_name": "audit",
	}
	return event
}

// ocsfWork adds what the profile ai_operation has.
func ocsfWork(event object, r *Record) {
	w := r.Work[0]
	model := object{"name": w.Model, "ai_provider": "serve"}
	if w.SHA256 != "" {
		model["uid"] = w.SHA256
		model["version"] = w.SHA256
	}
	event["ai_model"] = model
	in, _, out := r.tokens()
	event["message_context"] = object{
		"service":           object{"name": "serve"},
		"ai_role_id":        2, // Assistant
		"prompt_tokens":     in,
		"completion_tokens": out,
		"total_tokens":      in + out,
		"uid":               r.ID,
	}
}

// ocsfActor returns who has done what a record is about.
func ocsfActor(r *Record) object {
	who := r.who()
	user := object{}
	for name, value := range map[string]string{"name": who.Name, "uid": who.Key} {
		if value != "" {
			user[name] = value
		}
	}
	if len(user) == 0 && who.Client != "" {
		user["name"] = who.Client
	}
	if len(user) == 0 {
		return object{"app_name": "serve"}
	}
	if who.Tenant != "" {
		user["org"] = object{"name": who.Tenant}
	}
	return object{"user": user}
}

// ocsfAPI returns what was called.
func ocsfAPI(r *Record) object {
	operation := string(r.Kind)
	if r.Route != "" {
		operation = r.Method + " " + r.Route
	}
	api := object{"operation": operation, "service": object{"name": "serve"}}
	if r.ID != "" {
		api["request"] = object{"uid": r.ID}
	}
	if r.Status > 0 || r.Error != "" {
		response := object{"code": r.Status}
		if r.Error != "" {
			response["error"] = r.Error
		}
		api["response"] = response
	}
	return api
}

// Summary describes a record in a line of a table.
func (r *Record) Summary() []string {
	who := r.who()
	name := who.Name
	if name == "" {
		name = who.Client
	}

	if name == "" {
		name = r.Address
	}
	what := r.Object
	if r.Route != "" {
		what = r.Method + " " + r.Route
	}

	in, _, out := r.tokens()
	tokens := ""
	if in+out > 0 {
		tokens = fmt.Sprintf("%d + %d", in, out)
	}

	outcome := r.Error
	if r.Status > 0 {
		outcome = strings.TrimSpace(number(r.Status) + " " + r.Error)
	}

	if r.Count > 0 {
		outcome = strings.TrimSpace(fmt.Sprintf("%d times %s", r.Count, outcome))
	}
	return []string{
		strconv.FormatUint(r.Seq, 10),
		r.Time.Local().Format(time.DateTime),
		string(r.Kind),
		name,
		what,
		strings.Join(r.Models(), " "),
		tokens,
		outcome,
		r.ID,
	}
}

// Headings are those of the columns of Summary.
var Headings = []string{"SEQ", "TIME", "KIND", "WHO", "WHAT", "MODEL", "TOKENS", "OUTCOME", "ID"}

// ocsfOutcome returns how OCSF says what came of a record.
func ocsfOutcome(r *Record) (status int, statusName string, severity int) {
	status = ocsfSuccess
	statusName = "Success"
	severity = ocsfInformational
	if r.failed() || r.Kind == RequestsRefused {
		status = ocsfFailure
		statusName = "Failure"
		severity = ocsfLow
	}
	if r.Kind == EngineFailed || r.Kind == LogResumed || r.Kind == LogRecovered || r.Kind == RequestLost {
		severity = ocsfMedium
	}
	return status, statusName, severity
}
