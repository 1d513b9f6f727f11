// Package keyring is serve key: it makes, lists, revokes and rotates API keys, and prints them.
package keyring

import (
	"errors"
	"fmt"
	"time"

	"serve/access"
	"serve/terminal"
)

// Keyring is what all commands for keys have.
type Keyring struct {
	File     string // of the keys
	JSON     bool   // print JSON
	Terminal *terminal.Terminal
}

// Create makes a key and prints its secret, whatever fails once there is one.
func (c *Keyring) Create(n access.NewKey) error {
	k, secret, err := access.Create(c.File, n)
	if k.ID == "" {
		return err
	}
	return errors.Join(err, c.printSecret("created", k, secret))
}

// Rotate gives a key another secret and prints it. The earlier one is accepted for the grace period.
func (c *Keyring) Rotate(name string, grace time.Duration) error {
	k, secret, err := access.Rotate(c.File, name, grace)
	if secret == "" {
		return err
	}
	return errors.Join(err, c.printSecret("rotated", k, secret))
}

// printSecret prints the secret of a key, alone, and what there is to know about it beside it.
func (c *Keyring) printSecret(done string, k access.Key, secret string) error {
	if c.JSON {
		listed := access.Listed{Key: k}
		v := listed.View()
		v.Secret = secret
		return c.Terminal.PrintJSON(v)
	}
	c.Terminal.Note("%s %s (%s) in %s: tenant %s, scopes %s, limits %s",
		done, k.Name, k.ID, c.File, k.Tenant, k.Scopes, k.Limits)
	if secret == "" {
		c.Terminal.Note("it is for whoever has the certificate %s: there is no secret", k.Certificate)
		return nil
	}
	c.Terminal.Note("keep the key now: it is not stored, and not shown again")
	_, err := fmt.Fprintln(c.Terminal.Out, secret)
	return err
}

// Revoke revokes a key, by its name or id.
func (c *Keyring) Revoke(name string) error {
	k, err := access.Revoke(c.File, name)
	if err != nil {
		return err
	}
	if c.JSON {
		listed := access.Listed{Key: k}
		return c.Terminal.PrintJSON(listed.View())
	}
	c.Terminal.Note("revoked %s (%s)", k.Name, k.ID)
	return nil
}

// List prints all keys.
func (c *Keyring) List() error {
	list, err := access.List(c.File)
	if err != nil {
		return err
	}
	views := []access.View{}
	rows := [][]string{access.Headings}
	for i := range list {
		views = append(views, list[i].View())
		rows = append(rows, list[i].Cells())
	}
	switch {
	case c.JSON:
		return c.Terminal.PrintJSON(views)
	case len(list) == 0:
		c.Terminal.Note("there are no keys in %s", c.File)
		return nil
	}
	return c.Terminal.Table(rows)
}
