package ollama

import "flag"

// Update is set to write the golden files anew.
var Update = flag.Bool("update", false, "write the golden files anew")
