package server

import (
	"fmt"
	"net/url"
	"slices"
)

// checkSources returns an error if an image host or an allowed origin has a form that no request can match.
func checkSources(o *Options) error {
	for _, host := range o.ImageHosts {
		u, err := url.Parse("//" + host)
		if err != nil || u.Hostname() == "" || u.Host != host {
			return fmt.Errorf("--image-host %q must be a host name such as images.example.com", host)
		}
	}

	for _, origin := range o.AllowedOrigins {
		u, err := url.Parse(origin)
		plain := err == nil && u.Scheme != "" && u.Host != "" && u.Scheme+"://"+u.Host == origin
		if !plain && !slices.Contains([]string{"*", "null"}, origin) {
			return fmt.Errorf("--allow-origin %q must be an origin such as http://localhost:5173", origin)
		}
	}
	return nil
}
