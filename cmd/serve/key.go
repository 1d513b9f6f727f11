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
	made  keyring.New
	grace time.Duration
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
		func(args []string) error {
			k, err := o.made.Named(args[0])
			if err != nil {
				return usagef("--scope: %w", err)
			}
			return o.Create(k)
		})
	o.made.Declare(flagsOf(create))

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
