package provenance

import (
	"context"
	"fmt"

	"serve/models"
)

// ExportBundle writes models to a bundle. It is signed with the key in a file, if there is one.
func (c *Provenance) ExportBundle(ctx context.Context, keyFile string, names []string, file string) error {
	key, err := models.ReadPrivateKey(keyFile)
	if err != nil {
		return usageError{fmt.Errorf("--sign-key: %w", err)}
	}

	var locals []*models.Local
	list := []models.Info{}
	for _, name := range names {
		local, err := c.Library.Find(name)
		if err != nil {
			return err
		}
		locals = append(locals, local)
		list = append(list, local.Info())
	}
	if err := c.Library.Store.ExportBundle(ctx, file, locals, key); err != nil {
		return err
	}

	if c.JSON {
		return c.Terminal.PrintJSON(list)
	}
	signed := ""
	if key != nil {
		signed = ", signed"
	}
	c.Terminal.Fact("written", "%s: %d models%s", file, len(locals), signed)
	return nil
}

// ImportBundle reads a bundle, whose signature is verified with the key in a file, if there is one.
func (c *Provenance) ImportBundle(ctx context.Context, keyFile, file string) error {
	key, err := models.ReadPublicKey(keyFile)
	if err != nil {
		return usageError{fmt.Errorf("--verify-key: %w", err)}
	}

	imported, signed, err := c.Library.Store.ImportBundle(ctx, file, key)
	if err != nil {
		return err
	}
	if signed && key == nil {
		c.Terminal.Note("the bundle is signed, but its signature was not checked; --verify-key checks it")
	}

	if c.JSON {
		return c.Terminal.PrintJSON(imported)
	}
	for _, m := range imported {
		l := &m.Listing
		c.Terminal.Fact("imported", "%s: %s at %.12s, license %s", m.Name, l.Repo, l.Commit, l.License)
	}
	return nil
}
