package keyring

import (
	"context"
	"time"

	"serve/access"
	"serve/flagset"
	"serve/terminal"
)

// options are the flags of the commands.
type options struct {
	Keyring
	locate func(string) (string, error)
	made   New
	grace  time.Duration
}

// Commands are those of serve key. Locate returns the file of keys that a flag names, or the default.
func Commands(t *terminal.Terminal, locate func(given string) (string, error)) []flagset.Command {
	o := &options{Keyring: Keyring{Terminal: t}, locate: locate}
	const name = "the name of a key"
	return []flagset.Command{
		{
			Use:   "create NAME",
			Short: "create a key and print it; it is not shown again",
			Least: 1, Most: 1, What: name,
			Declare: func(f flagset.Set) { o.declare(f); o.made.Declare(f) },
			Run: o.run(func(args []string) error {
				k, err := o.made.Named(args[0])
				if err != nil {
					return flagset.Usagef("--scope: %w", err)
				}
				return o.Create(k)
			}),
		},
		{
			Use:   "list",
			Short: "list the keys",
			What:  "no arguments", Declare: o.declare,
			Run: o.run(func([]string) error { return o.List() }),
		},
		{
			Use:   "revoke NAME",
			Short: "revoke a key, by its name or id, and end what runs for it",
			Least: 1, Most: 1, What: name, Declare: o.declare,
			Run: o.run(func(args []string) error { return o.Revoke(args[0]) }),
		},
		{
			Use:   "rotate NAME",
			Short: "give a key another secret and print it",
			Least: 1, Most: 1, What: name,
			Declare: func(f flagset.Set) {
				o.declare(f)
				flagset.Parsed(f, &o.grace, "grace", "period", access.ParsePeriod, access.FormatPeriod,
					"how long the earlier secret is accepted, such as 24h")
			},
			Run: o.run(func(args []string) error { return o.Rotate(args[0], o.grace) }),
		},
	}
}

// declare declares the flags that all have.
func (o *options) declare(f flagset.Set) {
	f.Text(&o.File, "keys", "", "`file` of the keys; by default keys.json in serve's own data folder")
	f.JSON(&o.JSON)
}

// run returns a command that knows the file of keys.
func (o *options) run(do func(args []string) error) func(context.Context, []string) error {
	return func(_ context.Context, args []string) (err error) {
		if o.File, err = o.locate(o.File); err != nil {
			return err
		}
		return do(args)
	}
}
