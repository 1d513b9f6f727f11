package auditor

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"serve/access"
	"serve/audit"
	"serve/flagset"
	"serve/terminal"
)

// command is what all commands for audit logs have.
type command struct {
	t       *terminal.Terminal
	version string
	json    bool
	filter  audit.Filter
	since   string
	until   string
	format  string
	key     string
	kept    string // file of a checkpoint that was kept elsewhere
	keep    time.Duration

	captures     string // their folder
	keepCaptures time.Duration
	identity     string
	output       string
}

// Commands are those of serve audit.
func Commands(t *terminal.Terminal, version string) []flagset.Command {
	c := &command{t: t, version: version}
	return slices.Concat(c.keeping(), c.reading(), []flagset.Command{c.capture()})
}

// keeping are the commands that make logs, and verify and prune them.
func (c *command) keeping() []flagset.Command {
	return []flagset.Command{
		{
			Use:   "init DIR",
			Short: "make the keys of an audit log, and print the one that verifies it",
			Least: 1, Most: 1, What: "a folder",
			Run: func(_ context.Context, args []string) error { return c.init(args[0]) },
		},
		{
			Use:   "verify DIR",
			Short: "compare an audit log with what its key has signed",
			Least: 1, Most: 1, What: "a folder",
			Declare: func(f flagset.Set) {
				f.JSON(&c.json)
				c.declareKey(f)
				f.Text(&c.kept, "checkpoint", "",
					"`file` of a checkpoint that was kept elsewhere, of which the log must be a continuation")
			},
			Run: func(_ context.Context, args []string) error { return c.verify(args[0]) },
		},
		{
			Use:   "checkpoint DIR",
			Short: "print the last checkpoint of an audit log, to be kept elsewhere",
			Least: 1, Most: 1, What: "a folder",
			Run: func(_ context.Context, args []string) error { return c.print(audit.LastCheckpoint(args[0])) },
		},
		{
			Use:   "prune DIR",
			Short: "remove old records, whose hashes stay so that the rest can be verified, and old captures",
			Least: 1, Most: 1, What: "a folder",
			Declare: func(f flagset.Set) {
				c.keep = 184 * 24 * time.Hour
				flagset.Parsed(f, &c.keep, "keep", "period", access.ParsePeriod, access.FormatPeriod,
					"how old records may be, such as 184d")
				flagset.Parsed(f, &c.keepCaptures, "keep-captures", "period", access.ParsePeriod, access.FormatPeriod,
					"how old captures may be; 0 for as old as records")
				c.declareCaptures(f)
			},
			Run: func(_ context.Context, args []string) error {
				return errors.Join(c.prune(args[0]), c.pruneCaptures(args[0]))
			},
		},
	}
}

// capture is the command that decrypts a capture.
func (c *command) capture() flagset.Command {
	return flagset.Command{
		Use:   "capture DIR ID",
		Short: "decrypt what a request and its answer said, and print it as HTTP messages",
		Least: 2, Most: 2, What: "a folder and the id of a request",
		Declare: func(f flagset.Set) {
			f.Text(&c.identity, "identity", "", "`file` with the age private key of the captures")
			f.Text(&c.output, "output", "", "`file` to write instead, byte for byte, which must not exist")
			c.declareCaptures(f)
			c.declareKey(f)
		},
		Run: func(_ context.Context, args []string) error { return c.decrypt(args[0], args[1]) },
	}
}

func (c *command) declareCaptures(f flagset.Set) {
	f.Text(&c.captures, "capture-dir", "", "`folder` of the captures; by default captures in the folder of the audit log")
}

// reading are the commands that read records.
func (c *command) reading() []flagset.Command {
	return []flagset.Command{
		{
			Use:   "show DIR",
			Short: "show the records of an audit log",
			Least: 1, Most: 1, What: "a folder",
			Declare: func(f flagset.Set) { f.JSON(&c.json); c.declareFilter(f) },
			Run:     func(_ context.Context, args []string) error { return c.show(args[0]) },
		},
		{
			Use:   "export DIR",
			Short: "write the records of an audit log in a format for other programs",
			Least: 1, Most: 1, What: "a folder",
			Declare: func(f flagset.Set) {
				f.Choice(&c.format, "format", audit.FormatOCSF, audit.Formats,
					"format: OCSF's class API Activity with the profile ai_operation (ocsf), JSON lines as they are stored "+
						"(jsonl), or a table (csv)")
				c.declareFilter(f)
			},
			Run: func(_ context.Context, args []string) error { return c.export(args[0]) },
		},
		{
			Use:   "match DIR FILE",
			Short: "find the requests whose prompt, last message, answer, reasoning or calls are in a file",
			Least: 2, Most: 2, What: "a folder and a file (- for stdin)",
			Declare: func(f flagset.Set) { f.JSON(&c.json) },
			Run:     func(_ context.Context, args []string) error { return c.match(args[0], args[1]) },
		},
		{
			Use:   "prove DIR ID",
			Short: "print proofs that the records of a request, or with a number, are in an audit log",
			Least: 2, Most: 2, What: "a folder and the id of a request or the number of a record",
			Run: func(_ context.Context, args []string) error {
				proofs, err := audit.Prove(args[0], args[1])
				for _, p := range proofs {
					fmt.Fprint(c.t.Out, p)
				}
				return err
			},
		},
		{
			Use:   "check FILE",
			Short: "check a proof by nothing but the key that verifies the log, and print the record",
			Least: 1, Most: 1, What: "the file of a proof (- for stdin)",
			Declare: c.declareKey,
			Run:     func(_ context.Context, args []string) error { return c.check(args[0]) },
		},
	}
}

func (c *command) declareKey(f flagset.Set) {
	f.Text(&c.key, "public-key", "",
		"verifier `key` of the log, or the file that has it; by default key.pub in the folder")
}

func (c *command) declareFilter(f flagset.Set) {
	f.Text(&c.since, "since", "",
		"records from a `time` on: 2026-11-27, 2026-11-27T18:00:00Z, or a period such as 24h or 7d")
	f.Text(&c.until, "until", "", "records before a `time`")
	f.Text(&c.filter.Kind, "kind", "", "`kind` of the records, such as request.end or key")
	f.Text(&c.filter.ID, "id", "", "`id` of a request, the server's or the client's")
	f.Text(&c.filter.Who, "who", "", "`name` or id of a key, or a client without one")
	f.Text(&c.filter.Tenant, "tenant", "", "`name` of a tenant")
	f.Text(&c.filter.Model, "model", "", "`name` or SHA-256 of a model")
	f.Toggle(&c.filter.Failed, "failed", false, "only what failed")
}

// parseTime reads a time, or a period before now.
func parseTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	d, err := access.ParsePeriod(text)
	if err != nil {
		return time.Time{}, flagset.Usagef("--%s: %q must be a time such as 2026-11-27, or a period such as 24h", flag, text)
	}
	return time.Now().Add(-d), nil
}

// chosen returns the filter.
func (c *command) chosen() (*audit.Filter, error) {
	var err error
	if c.filter.Since, err = parseTime("since", c.since); err != nil {
		return nil, err
	}
	c.filter.Until, err = parseTime("until", c.until)
	return &c.filter, err
}

func (c *command) print(text string, err error) error {
	if err == nil {
		_, err = fmt.Fprint(c.t.Out, text)
	}
	return err
}

func (c *command) init(dir string) error {
	key, err := audit.Init(dir)
	if err != nil {
		return err
	}
	c.t.Note("made the keys of an audit log in %s; serve --audit %s writes it", dir, dir)
	c.t.Note("keep this key elsewhere: it verifies the log")
	return c.print(key+"\n", nil)
}

func (c *command) verify(dir string) error {
	o := audit.VerifyOptions{Key: c.key}
	if c.kept != "" {
		text, err := os.ReadFile(c.kept)
		if err != nil {
			return err
		}
		o.Checkpoint = string(text)
	}

	r, err := audit.Verify(dir, o)
	if err != nil {
		return err
	}

	if c.json {
		if err := c.t.PrintJSON(r); err != nil {
			return err
		}
	} else {
		for _, p := range r.Problems {
			c.t.Warn("%s", p)
		}
		if r.Unfinished != nil {
			c.t.Note("%s", *r.Unfinished)
		}
	}

	if n := len(r.Problems); n > 0 {
		return fmt.Errorf("%w: %d problems in %s", audit.ErrProof, n, dir)
	}
	if !c.json {
		c.t.Note("%d records of %s verify, of which %d were pruned", r.Records, r.Origin, r.Pruned)
	}

	return nil
}

func (c *command) prune(dir string) error {
	files, err := audit.Prune(dir, time.Now().Add(-c.keep))
	for _, name := range files {
		c.t.Note("pruned %s", name)
	}
	if err == nil && len(files) == 0 {
		c.t.Note("no file of the log has only records that are older than %s", access.FormatPeriod(c.keep))
	}
	return err
}

// pruneCaptures removes the captures of a log that are too old.
func (c *command) pruneCaptures(dir string) error {
	keep := cmp.Or(c.keepCaptures, c.keep)
	before := time.Now().Add(-keep)
	captures := capturesOf(dir, c.captures)
	if _, err := os.Stat(captures); errors.Is(err, fs.ErrNotExist) && c.captures == "" {
		return nil
	}
	count, err := audit.PruneCaptures(captures, before)
	if count == 0 {
		return err
	}
	c.t.Note("removed %d captures that were older than %s", count, access.FormatPeriod(keep))
	return errors.Join(err, audit.NoteCapturesPruned(dir, count, before))
}

// decrypt prints the capture of a request, or writes it into a file.
func (c *command) decrypt(dir, id string) error {
	if c.identity == "" {
		return flagset.Usagef("--identity is required: the private key that decrypts captures")
	}
	identities, err := audit.ReadIdentities(c.identity)
	if err != nil {
		return err
	}
	record, err := audit.End(dir, c.key, id)
	if err != nil {
		return err
	}
	text, err := audit.OpenCaptureOf(record, capturesOf(dir, c.captures), identities...)
	if err != nil {
		return err
	}
	defer text.Close()

	if c.output == "" {
		all, err := io.ReadAll(text)
		if err == nil {
			c.t.Text(string(all))
		}
		return err
	}
	f, err := os.OpenFile(c.output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, text); err != nil {
		_ = os.Remove(c.output) // what cannot be verified to its end says nothing
	}
	return errors.Join(err, f.Close())
}

func (c *command) show(dir string) error {
	f, err := c.chosen()
	if err != nil {
		return err
	}
	rows := [][]string{audit.Headings}
	list := []*audit.Record{}
	for r, err := range audit.Select(audit.Records(dir), f) {
		if err != nil {
			return err
		}
		list = append(list, r)
		row := r.Summary()
		for i := range row {
			row[i] = terminal.Printable(row[i])
		}
		rows = append(rows, row)
	}
	if c.json {
		return c.t.PrintJSON(list)
	}
	return c.t.Table(rows)
}

func (c *command) export(dir string) error {
	f, err := c.chosen()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(c.t.Out)
	if err := audit.Export(out, c.format, c.version, audit.Select(audit.Records(dir), f)); err != nil {
		return err
	}
	return out.Flush()
}

// maxInput bounds what is read of a text or a proof, in bytes.
const maxInput = 64 << 20

// read reads a file, or stdin.
func read(name string) ([]byte, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	return io.ReadAll(io.LimitReader(f, maxInput))
}

func (c *command) match(dir, name string) error {
	text, err := read(name)
	if err != nil {
		return err
	}

	list, err := audit.FindText(dir, text)
	if err != nil {
		return err
	}

	if c.json {
		return c.t.PrintJSON(append([]audit.Match{}, list...))
	}
	if len(list) == 0 {
		c.t.Note("no record has this text")
		return nil
	}

	rows := [][]string{append([]string{"AS"}, audit.Headings...)}
	for _, m := range list {
		row := []string{string(m.As)}
		for _, cell := range m.Record.Summary() {
			row = append(row, terminal.Printable(cell))
		}
		rows = append(rows, row)
	}

	return c.t.Table(rows)
}

func (c *command) check(name string) error {
	if c.key == "" {
		return flagset.Usagef("--public-key is required: a proof says nothing by itself")
	}
	key, err := audit.ParseVerifier(c.key)
	if err != nil {
		return err
	}
	text, err := read(name)
	if err != nil {
		return err
	}
	r, signed, err := audit.CheckProof(string(text), key)
	if err != nil {
		return err
	}
	c.t.Note("record %d is in the log %s of %d records", r.Seq, signed.Origin, signed.Size)
	return c.t.PrintJSON(r)
}
