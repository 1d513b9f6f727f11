package ops

// Update is set to write golden files anew.
var Update = update
