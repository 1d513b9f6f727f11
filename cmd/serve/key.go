package main

import (
	"github.com/spf13/cobra"

	"serve/access"
	"serve/auditor"
	"serve/egress"
	"serve/flagset"
	"serve/hub"
	"serve/keyring"
	"serve/models"
	"serve/replay"
)

func newKeyCommand(w *cli) *cobra.Command {
	return newGroup(&cobra.Command{
		Use:   "key",
		Short: "manage the API keys of servers",
		Long: `key creates, lists, revokes and rotates API keys. Servers that use the same file of
keys notice within a second. Once there is a key, every client needs one.`,
		Args: arguments(0, 0, "create, list, revoke or rotate"),
	}, keyring.Commands(w.t, w.keysFile))
}

func newAuditCommand(w *cli) *cobra.Command {
	return newGroup(&cobra.Command{
		Use:   "audit",
		Short: "make, verify and read the audit logs of servers",
		Long: `audit makes the keys of an audit log, in which serve --audit DIR records who has asked
for what and what was done to the server, and verifies, reads, exports and prunes it.`,
		Args: arguments(0, 0, "the name of one of its commands"),
	}, auditor.Commands(w.t, versionText()))
}

func newReplayCommand(w *cli) *cobra.Command {
	c := &replay.Replay{Terminal: w.t, Dialer: w.dialer, Lookup: w.lookup}
	cmd := &cobra.Command{
		Use:   "replay ID",
		Short: "ask again what an audit log has captured, and compare the answers",
		Long: `replay decrypts a request that serve --audit DIR --capture KEY has kept, asks a running
server the same, and says whether the answer is the same, byte for byte.`,
		Annotations: map[string]string{needs: egress.Asks},
		Args:        arguments(1, 1, "the id of a request"),
		RunE:        func(cmd *cobra.Command, args []string) error { return c.Run(cmd.Context(), args[0]) },
	}
	c.Declare(flagsOf(cmd))
	w.reach.Declare(flagsOf(cmd))
	return cmd
}

// newGroup adds commands to one that only has them.
func newGroup(group *cobra.Command, list []flagset.Command) *cobra.Command {
	group.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	for _, c := range list {
		cmd := &cobra.Command{
			Use:   c.Use,
			Short: c.Short,
			Args:  arguments(c.Least, c.Most, c.What),
			RunE:  func(cmd *cobra.Command, args []string) error { return c.Run(cmd.Context(), args) },
		}
		if c.Declare != nil {
			c.Declare(flagsOf(cmd))
		}
		group.AddCommand(cmd)
	}
	return group
}

// keysFile returns the file of keys that a flag names, or the default.
func (w *cli) keysFile(given string) (string, error) {
	if given != "" {
		return hub.ExpandHome(given, w.lookup), nil
	}
	network, err := w.network()
	return access.DefaultFile(models.Home(w.lookup, network.Cache)), err
}
