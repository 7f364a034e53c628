package ironic

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"

	"github.com/tenks/tenks/internal/hint"
)

// connect makes a client, authenticated where Keystone does that, that has not
// yet talked to Ironic.
func connect(ctx context.Context, s settings, o Options) (*client, error) {
	transport, err := s.transport(o.Env)
	if err != nil {
		return nil, err
	}
	c := &client{
		settings: s, log: o.Log, pause: firstPause, minor: neededMinor, secrets: s.secrets(),
		http:      &http.Client{Transport: transport, Timeout: o.RequestTime},
		authorize: func(*http.Request) {},
	}
	endpoint := s.endpoint
	switch s.authType {
	case authBasic:
		c.authorize = func(r *http.Request) { r.SetBasicAuth(s.username, s.password) }
	case authKeystone:
		if endpoint, err = c.keystone(ctx); err != nil {
			return nil, err
		}
	}
	if c.root, err = parseEndpoint(endpoint); err != nil {
		return nil, fmt.Errorf("%s: %w", s.where, err)
	}
	if s.expected == "" {
		return c, nil
	}
	expected, err := parseEndpoint(s.expected)
	if err != nil {
		return nil, err
	}
	if expected.String() != c.root.String() {
		return nil, hint.Add(fmt.Errorf("the nodes are enrolled at %s, but the credentials are for %s (%s)",
			expected.Redacted(), c.root.Redacted(), s.where), "set the OS_* variables for %s", expected.Redacted())
	}
	return c, nil
}

// parseEndpoint returns the root of the API, without /v1.
func parseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		if err == nil && u.User != nil {
			endpoint = u.Redacted()
		} else if err != nil {
			endpoint = "it" // may have a password in it
		}
		return nil, hint.Add(fmt.Errorf("endpoint: %s is not an HTTP URL", endpoint), "give it as http://ADDRESS:6385")
	}
	if u.User != nil {
		return nil, hint.Add(fmt.Errorf("endpoint: %s has credentials in it", u.Redacted()),
			"use auth_type http_basic with username and password")
	}
	u.Path = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/v1"), "/")
	u.RawQuery, u.Fragment = "", ""
	return u, nil
}

// keystone authenticates, has requests carry the token, and returns the
// endpoint of Ironic.
func (c *client) keystone(ctx context.Context) (string, error) {
	s := c.settings
	where := s.keystone.IdentityEndpoint
	if u, err := url.Parse(where); err == nil {
		where = u.Redacted()
	}
	provider, err := openstack.NewClient(s.keystone.IdentityEndpoint)
	if err != nil {
		return "", fmt.Errorf("%s: auth_url: %w", s.where, c.scrub(err))
	}
	provider.HTTPClient = *c.http
	err = openstack.Authenticate(ctx, provider, s.keystone)
	var code gophercloud.ErrUnexpectedResponseCode
	switch {
	case gophercloud.ResponseCodeIs(err, http.StatusUnauthorized):
		return "", hint.Add(fmt.Errorf("keystone at %s refuses the credentials (%s)", where, s.where),
			"check user name, password, project and domains")
	case errors.As(err, &code):
		return "", hint.Add(fmt.Errorf("keystone at %s answers %d %s", where, code.Actual, http.StatusText(code.Actual)),
			"check auth_url, and what Keystone's logs say")
	case err != nil:
		return "", hint.Add(fmt.Errorf("keystone at %s cannot be reached: %w", where, c.scrub(plain(err))), "%s", contactHint(err))
	}
	c.authorize = func(r *http.Request) { r.Header.Set("X-Auth-Token", provider.Token()) }
	if provider.ReauthFunc != nil {
		c.renew = func(ctx context.Context, old string) error { return provider.Reauthenticate(ctx, old) }
	}
	if s.endpoint != "" {
		return s.endpoint, nil
	}
	service, err := openstack.NewBareMetalV1(provider, gophercloud.EndpointOpts{Region: s.region, Availability: s.availability})
	if err != nil {
		region := ""
		if s.region != "" {
			region = fmt.Sprintf(" in region %q", s.region)
		}
		return "", hint.Add(fmt.Errorf("keystone at %s has no bare metal service%s in its catalogue (%s)", where, region, s.where),
			"check region and interface, or give baremetal_endpoint_override")
	}
	return service.Endpoint, nil
}

// transport has the settings for TLS.
func (s settings) transport(env func(string) string) (http.RoundTripper, error) {
	home := func(path string) string {
		if rest, ok := strings.CutPrefix(path, "~/"); ok {
			return filepath.Join(env("HOME"), rest)
		}
		return path
	}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     30 * time.Second,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: s.insecure}, // as the user's file asks for
	}
	if s.caCert != "" {
		text, err := os.ReadFile(home(s.caCert))
		if err != nil {
			return nil, fmt.Errorf("%s: cacert: %w", s.where, err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: cacert: %s has no certificate in it", s.where, s.caCert)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	if s.cert != "" {
		pair, err := tls.LoadX509KeyPair(home(s.cert), home(first(s.key, s.cert)))
		if err != nil {
			return nil, fmt.Errorf("%s: client certificate: %w", s.where, err)
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// contactHint is the advice for a service that cannot be reached.
func contactHint(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var dns *net.DNSError
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return "give the CA's certificate as cacert (OS_CACERT)"
	case errors.As(err, &name):
		return "use a host name that is in the server's certificate"
	case errors.As(err, &header):
		return "the server does not speak TLS: use http:// in the URL"
	case errors.As(err, &dns):
		return "check the host name in the URL"
	}
	return "check the URL, and that the service runs"
}
