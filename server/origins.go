package server

import (
	"fmt"
	"net/url"
	"slices"
)

// checkOrigins returns an error if an allowed origin has a form that no request can match.
func checkOrigins(o *Options) error {
	for _, origin := range o.AllowedOrigins {
		u, err := url.Parse(origin)
		plain := err == nil && u.Scheme != "" && u.Host != "" && u.Scheme+"://"+u.Host == origin
		if !plain && !slices.Contains([]string{"*", "null"}, origin) {
			return fmt.Errorf("--allow-origin %q must be an origin such as http://localhost:5173", origin)
		}
	}
	return nil
}
