package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"serve/egress"
	"serve/fault"
	"serve/prompt"
)

// Limits on images that are fetched.
const (
	fetchTimeout = 30 * time.Second
	maxRedirects = 5
)

// imageFetcher fetches images from allowed hosts.
type imageFetcher struct {
	hosts  []imageHost
	limit  int64 // maximum number of bytes fetched for one request
	client *http.Client
}

func newImageFetcher(o *Options) (*imageFetcher, error) {
	f := &imageFetcher{limit: o.MaxBody}
	for _, given := range o.ImageHosts {
		host, err := parseImageHost(given, o.PrivateImageHosts)
		if err != nil {
			return nil, err
		}
		f.hosts = append(f.hosts, host)
	}

	base := o.ImageTransport
	if base == nil {
		base = new(egress.Net).Transport(ImageWay(o.ImageHosts))
	}
	f.client = &http.Client{
		Transport: newImageTransport(base, f.hosts),
		Timeout:   fetchTimeout,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch first := via[0].URL; {
			case len(via) > maxRedirects:
				return errors.New("too many redirects")
			case r.URL.Scheme != first.Scheme || r.URL.Host != first.Host:
				return errors.New("the host redirects to another one")
			}
			return f.allows(r.URL)
		},
	}
	return f, nil
}

// allows returns an error if a URL may not be fetched.
func (f *imageFetcher) allows(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%.20q is not a URL scheme for images", u.Scheme)
	case u.User != nil:
		return errors.New("a URL with a user name is not fetched")
	case !slices.ContainsFunc(f.hosts, func(h imageHost) bool { return h.has(u) }):
		return fmt.Errorf("fetching from %.100q is not allowed; the operator can allow it with --image-host",
			u.Scheme+"://"+u.Host)
	}
	return nil
}

// fetch implements prompt.Fetch.
func (f *imageFetcher) fetch(ctx context.Context, image *prompt.Image, fetched int64) ([]byte, *fault.Error) {
	u, err := url.Parse(image.URL)
	if err == nil {
		err = f.allows(u)
	}
	if err != nil {
		return nil, fault.New(fault.ImageURL, image.Field,
			"Invalid '%s': %v. Images can be sent as data URLs.", image.Field, err)
	}

	left := f.limit - fetched
	data, err := f.get(ctx, u, left+1)
	switch {
	case err != nil:
		return nil, fault.New(fault.ImageUnreachable, image.Field,
			"The image in '%s' could not be fetched: %v.", image.Field, err)
	case int64(len(data)) > left:
		return nil, fault.New(fault.ImageFileTooBig, image.Field,
			"The images of the request are too large (maximum %d bytes).", f.limit)
	case len(data) == 0:
		return nil, fault.New(fault.ImageEmpty, image.Field, "The image in '%s' is empty.", image.Field)
	}
	return data, nil
}

// get downloads at most the given number of bytes.
func (f *imageFetcher) get(ctx context.Context, u *url.URL, most int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}

	answer, err := f.client.Do(r)
	if err != nil {
		// The error quotes the URL, which may contain a secret.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the host responded %s", answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, most))
}
