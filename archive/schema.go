package archive

import (
	"database/sql"
	"fmt"
)

// version is the version of the database.
const version = 3

// schema creates the tables. Files and batches are numbered in order of creation, which times are too coarse for.
const schema = `
CREATE TABLE IF NOT EXISTS responses (
	id TEXT PRIMARY KEY, previous TEXT NOT NULL, created INTEGER NOT NULL, input BLOB NOT NULL, body BLOB NOT NULL,
	owner TEXT NOT NULL DEFAULT '', bytes INTEGER NOT NULL DEFAULT 0, tenant TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS responses_created ON responses (created);
CREATE UNIQUE INDEX IF NOT EXISTS responses_tenant ON responses (tenant, id);
CREATE TABLE IF NOT EXISTS files (
	number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
	created INTEGER NOT NULL, expires INTEGER NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL,
	bytes INTEGER NOT NULL, tenant TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS files_tenant ON files (tenant, id);
CREATE TABLE IF NOT EXISTS batches (
	number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
	created INTEGER NOT NULL, input TEXT NOT NULL, output TEXT NOT NULL, errors TEXT NOT NULL,
	open INTEGER NOT NULL, body BLOB NOT NULL, tenant TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS batches_open ON batches (open);
CREATE UNIQUE INDEX IF NOT EXISTS batches_tenant ON batches (tenant, id);
PRAGMA user_version = 3;`

// toVersion2 says how much each response counts for. It does not say who made what.
const toVersion2 = `
ALTER TABLE responses ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE responses ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE responses SET bytes = 512 + length(id) + length(previous) + length(input) + length(body);`

// addTenant makes what is in a table nobody's: only requests of no tenant find it.
const addTenant = `
ALTER TABLE %s ADD COLUMN tenant TEXT NOT NULL DEFAULT '';`

// prepare creates the tables, or brings those of an older version up to date.
func prepare(db *sql.DB) error {
	var found int
	if err := db.QueryRow("PRAGMA user_version").Scan(&found); err != nil {
		return err
	}
	if found > version {
		return fmt.Errorf("its database has version %d, written by a newer serve", found)
	}

	statements := ""
	if found == 1 {
		statements += toVersion2
	}
	if found == 1 || found == 2 {
		// Files and batches came between them.
		for _, table := range []string{"responses", "files", "batches"} {
			var n int
			row := db.QueryRow("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", table)
			if err := row.Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				statements += fmt.Sprintf(addTenant, table)
			}
		}
	}

	_, err := db.Exec("BEGIN;" + statements + schema + "COMMIT;")
	return noRoom(err)
}
