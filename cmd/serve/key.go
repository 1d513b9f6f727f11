package main

import (
	"time"

	"github.com/spf13/cobra"

	"serve/access"
	"serve/flagset"
	"serve/hub"
	"serve/keyring"
	"serve/models"
)

// keyOptions are the flags of the commands for keys.
type keyOptions struct {
	keyring.Command
	made   access.NewKey
	scopes []string
	grace  time.Duration
}

func newKeyCommand(w *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "manage the API keys of servers",
		Long: `key creates, lists, revokes and rotates API keys. Servers that use the same file of
keys notice within a second. Once there is a key, every client needs one.`,
		Args: arguments(0, 0, "create, list, revoke or rotate"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}

	var o keyOptions
	name := arguments(1, 1, "the name of a key")
	create := w.keyCommand(&o, "create NAME", "create a key and print it; it is not shown again", name,
		func(args []string) (err error) {
			o.made.Name = args[0]
			if len(o.scopes) > 0 {
				if o.made.Scopes, err = access.ParseScope(o.scopes); err != nil {
					return usagef("--scope: %w", err)
				}
			}
			return o.Create(o.made)
		})
	f := flagsOf(create)
	f.Text(&o.made.Tenant, "tenant", "", "`name` of whose the key's data is; by default the key's own")
	f.List(&o.made.Models, "models", "`model` that the key may use; by default all")
	f.List(&o.scopes, "scope", "`scope` of the key: inference, models (list them), metrics (and status) and admin "+
		"(manage models); by default inference and models")
	for _, limit := range []struct {
		p           *int
		name, usage string
	}{
		{&o.made.Limits.RequestsPerMinute, "requests-per-minute", "maximum requests per minute; 0 for no limit"},
		{&o.made.Limits.TokensPerMinute, "tokens-per-minute", "maximum tokens, in and out, per minute; 0 for no limit"},
		{&o.made.Limits.TokensPerDay, "tokens-per-day", "maximum tokens, in and out, per day (UTC); 0 for no limit"},
		{&o.made.Limits.Concurrent, "concurrent", "maximum answers that are computed at the same time; 0 for no limit"},
	} {
		flagset.Number(f, limit.p, limit.name, 0, flagset.Within(0, access.MaxLimit), limit.usage)
	}
	flagset.Parsed(f, &o.made.Expires, "expires", "period", access.ParsePeriod, access.FormatPeriod,
		"how long the key is valid, such as 90d or 12h; 0 for unlimited")

	rotate := w.keyCommand(&o, "rotate NAME", "give a key another secret and print it", name,
		func(args []string) error { return o.Rotate(args[0], o.grace) })
	flagset.Parsed(flagsOf(rotate), &o.grace, "grace", "period", access.ParsePeriod, access.FormatPeriod,
		"how long the earlier secret is accepted, such as 24h")
	cmd.AddCommand(
		create,
		w.keyCommand(&o, "list", "list the keys", arguments(0, 0, "no arguments"), func([]string) error { return o.List() }),
		w.keyCommand(&o, "revoke NAME", "revoke a key, by its name or id, and end what runs for it", name,
			func(args []string) error { return o.Revoke(args[0]) }),
		rotate,
	)
	return cmd
}

// keyCommand returns a command for keys.
func (w *cli) keyCommand(
	o *keyOptions, use, short string, args cobra.PositionalArgs, run func([]string) error,
) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  args,
		RunE: func(_ *cobra.Command, args []string) (err error) {
			o.Terminal = w.t
			if o.File, err = w.keysFile(o.File); err != nil {
				return err
			}
			return run(args)
		},
	}
	f := flagsOf(cmd)
	f.Text(&o.File, "keys", "", "`file` of the keys; by default keys.json in serve's own data folder")
	f.JSON(&o.JSON)
	return cmd
}

// keysFile returns the file of keys that a flag names, or the default.
func (w *cli) keysFile(given string) (string, error) {
	if given != "" {
		return hub.ExpandHome(given, w.lookup), nil
	}
	network, err := w.network()
	return access.DefaultFile(models.Home(w.lookup, network.Cache)), err
}
