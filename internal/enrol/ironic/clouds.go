package ironic

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"go.yaml.in/yaml/v4"

	"github.com/tenks/tenks/internal/hint"
)

// Ways to authenticate.
const (
	authNone     = "none"
	authBasic    = "http_basic"
	authKeystone = "keystone"
)

// settings is all that is needed to reach the service.
type settings struct {
	id       string // "cloud:NAME", or empty: the endpoint names the service
	where    string // the settings come from, for messages
	authType string // authNone, authBasic, authKeystone
	endpoint string // of Ironic; empty: in Keystone's catalogue
	expected string // the endpoint must be this one, if set

	username, password string // authBasic
	keystone           gophercloud.AuthOptions
	region             string
	availability       gophercloud.Availability

	caCert, cert, key string // files
	insecure          bool
}

// secrets are the words that no message may contain.
func (s settings) secrets() []string {
	return []string{s.password, s.keystone.Password, s.keystone.ApplicationCredentialSecret, s.keystone.TokenID}
}

// cloud is an entry of clouds.yaml, as openstacksdk documents it
// ("Configuring OpenStack SDK Applications"): the keys that Tenks knows.
type cloud struct {
	AuthType     string `yaml:"auth_type"`
	Auth         auth   `yaml:"auth"`
	Region       string `yaml:"region_name"`
	Interface    string `yaml:"interface"`
	EndpointType string `yaml:"endpoint_type"` // the old name of interface
	Endpoint     string `yaml:"baremetal_endpoint_override"`
	CACert       string `yaml:"cacert"`
	Cert         string `yaml:"cert"`
	Key          string `yaml:"key"`
	Verify       *bool  `yaml:"verify"`
}

type auth struct {
	Endpoint          string `yaml:"endpoint"`
	AuthURL           string `yaml:"auth_url"`
	Username          string `yaml:"username"`
	UserID            string `yaml:"user_id"`
	Password          string `yaml:"password"`
	Token             string `yaml:"token"`
	ProjectName       string `yaml:"project_name"`
	ProjectID         string `yaml:"project_id"`
	UserDomainName    string `yaml:"user_domain_name"`
	UserDomainID      string `yaml:"user_domain_id"`
	ProjectDomainName string `yaml:"project_domain_name"`
	ProjectDomainID   string `yaml:"project_domain_id"`
	DomainName        string `yaml:"domain_name"`
	DomainID          string `yaml:"domain_id"`
	SystemScope       string `yaml:"system_scope"`
	AppCredID         string `yaml:"application_credential_id"`
	AppCredName       string `yaml:"application_credential_name"`
	AppCredSecret     string `yaml:"application_credential_secret"`
}

// resolve finds the settings that the options ask for.
func resolve(o Options) (settings, error) {
	name := o.Cloud
	if name == "" {
		name = o.Env("OS_CLOUD")
	}
	var c cloud
	var s settings
	var err error
	switch {
	case name != "":
		c, s.where, err = fromFile(name, o.Env)
		s.id = "cloud:" + name
	case o.Env("OS_AUTH_TYPE") != "" || o.Env("OS_AUTH_URL") != "" || o.Env("OS_ENDPOINT") != "":
		c, s.where = fromEnv(o.Env), "OS_* variables"
	case o.Endpoint != "":
		c, s.where = cloud{AuthType: authNone, Endpoint: o.Endpoint}, "there are no OS_* variables"
	default:
		_, names := known(o.Env)
		return s, hint.Add(errors.New("no bare metal service is given"),
			"name a cloud of clouds.yaml in the cluster file (ironic.cloud) or in OS_CLOUD, or set OS_AUTH_TYPE and what belongs to it%s", names)
	}
	if err != nil {
		return s, err
	}
	if o.Endpoint != "" {
		s.id, s.expected = "endpoint:"+o.Endpoint, o.Endpoint
	}
	return c.settings(s)
}

// settings checks the entry and fills s in with it.
func (c cloud) settings(s settings) (settings, error) {
	s.endpoint = c.Endpoint
	if s.endpoint == "" {
		s.endpoint = c.Auth.Endpoint
	}
	s.region = c.Region
	s.caCert, s.cert, s.key = c.CACert, c.Cert, c.Key
	s.insecure = c.Verify != nil && !*c.Verify
	var missing []string
	need := func(what, value string) {
		if value == "" {
			missing = append(missing, what)
		}
	}
	switch c.AuthType {
	case authNone:
		s.authType = authNone
		need("endpoint", s.endpoint)
	case authBasic:
		s.authType = authBasic
		s.username, s.password = c.Auth.Username, c.Auth.Password
		need("endpoint", s.endpoint)
		need("username", s.username)
		need("password", s.password)
	case "", "password", "v3password", "token", "v3token", "v3applicationcredential":
		s.authType = authKeystone
		need("auth_url", c.Auth.AuthURL)
		switch {
		case c.AuthType == "token" || c.AuthType == "v3token":
			need("token", c.Auth.Token)
		case c.AuthType == "v3applicationcredential" || c.Auth.AppCredID+c.Auth.AppCredName != "":
			need("application_credential_id", c.Auth.AppCredID+c.Auth.AppCredName)
			need("application_credential_secret", c.Auth.AppCredSecret)
		default:
			need("username", c.Auth.Username+c.Auth.UserID)
			need("password", c.Auth.Password)
		}
		s.keystone = c.Auth.options()
	default:
		return s, hint.Add(fmt.Errorf("%s: auth_type %q is not supported", s.where, c.AuthType),
			"use password, v3applicationcredential, v3token, http_basic or none")
	}
	if missing != nil {
		return s, hint.Add(fmt.Errorf("%s: missing for auth_type %q: %s", s.where, c.AuthType, strings.Join(missing, ", ")),
			"complete the settings (in the environment: OS_ENDPOINT, OS_AUTH_URL, OS_USERNAME and so on)")
	}
	switch first(c.Interface, c.EndpointType) {
	case "", "public", "publicURL":
		s.availability = gophercloud.AvailabilityPublic
	case "internal", "internalURL":
		s.availability = gophercloud.AvailabilityInternal
	case "admin", "adminURL":
		s.availability = gophercloud.AvailabilityAdmin
	default:
		return s, fmt.Errorf("%s: interface %q is none of public, internal, admin", s.where, first(c.Interface, c.EndpointType))
	}
	return s, nil
}

// options are the settings as gophercloud wants them. A user without a domain
// is in the domain "default", as for the openstack command.
func (a auth) options() gophercloud.AuthOptions {
	o := gophercloud.AuthOptions{IdentityEndpoint: a.AuthURL, AllowReauth: true}
	domainID, domainName := first(a.UserDomainID, a.DomainID), first(a.UserDomainName, a.DomainName)
	if domainID != "" {
		domainName = "" // gophercloud takes either
	}
	if domainID+domainName == "" {
		domainID = "default"
	}
	switch {
	case a.AppCredID != "":
		o.ApplicationCredentialID, o.ApplicationCredentialSecret = a.AppCredID, a.AppCredSecret
		return o // its project is its own
	case a.AppCredName != "":
		o.ApplicationCredentialName, o.ApplicationCredentialSecret = a.AppCredName, a.AppCredSecret
		o.UserID, o.Username = a.UserID, a.Username
		if a.UserID == "" {
			o.DomainID, o.DomainName = domainID, domainName
		} else {
			o.Username = ""
		}
		return o
	case a.Token != "" && a.Password == "":
		o.TokenID, o.AllowReauth = a.Token, false
	case a.UserID != "":
		o.UserID, o.Password = a.UserID, a.Password
	default:
		o.Username, o.Password = a.Username, a.Password
		o.DomainID, o.DomainName = domainID, domainName
	}
	switch {
	case a.SystemScope != "":
		o.Scope = &gophercloud.AuthScope{System: true}
	case a.ProjectID != "":
		o.Scope = &gophercloud.AuthScope{ProjectID: a.ProjectID}
	case a.ProjectName != "":
		o.Scope = &gophercloud.AuthScope{ProjectName: a.ProjectName, DomainID: first(a.ProjectDomainID, a.DomainID)}
		if o.Scope.DomainID == "" {
			o.Scope.DomainName = first(a.ProjectDomainName, a.DomainName)
		}
		if o.Scope.DomainID+o.Scope.DomainName == "" {
			o.Scope.DomainID = "default"
		}
	case a.DomainID != "":
		o.Scope = &gophercloud.AuthScope{DomainID: a.DomainID}
	case a.DomainName != "":
		o.Scope = &gophercloud.AuthScope{DomainName: a.DomainName}
	}
	return o
}

// fromEnv reads the OS_* variables.
func fromEnv(env func(string) string) cloud {
	c := cloud{
		AuthType: env("OS_AUTH_TYPE"),
		Auth: auth{
			AuthURL: env("OS_AUTH_URL"), Username: env("OS_USERNAME"), UserID: env("OS_USER_ID"),
			Password: env("OS_PASSWORD"), Token: env("OS_TOKEN"),
			ProjectName: first(env("OS_PROJECT_NAME"), env("OS_TENANT_NAME")),
			ProjectID:   first(env("OS_PROJECT_ID"), env("OS_TENANT_ID")),

			UserDomainName: env("OS_USER_DOMAIN_NAME"), UserDomainID: env("OS_USER_DOMAIN_ID"),
			ProjectDomainName: env("OS_PROJECT_DOMAIN_NAME"), ProjectDomainID: env("OS_PROJECT_DOMAIN_ID"),
			DomainName: env("OS_DOMAIN_NAME"), DomainID: env("OS_DOMAIN_ID"), SystemScope: env("OS_SYSTEM_SCOPE"),

			AppCredID: env("OS_APPLICATION_CREDENTIAL_ID"), AppCredName: env("OS_APPLICATION_CREDENTIAL_NAME"),
			AppCredSecret: env("OS_APPLICATION_CREDENTIAL_SECRET"),
		},
		Region:    env("OS_REGION_NAME"),
		Interface: first(env("OS_INTERFACE"), env("OS_ENDPOINT_TYPE")),
		Endpoint:  first(env("OS_BAREMETAL_ENDPOINT_OVERRIDE"), env("OS_ENDPOINT"), env("OS_ENDPOINT_OVERRIDE")),
		CACert:    env("OS_CACERT"), Cert: env("OS_CERT"), Key: env("OS_KEY"),
	}
	switch strings.ToLower(env("OS_INSECURE")) {
	case "1", "true", "yes":
		verify := false
		c.Verify = &verify
	}
	return c
}

// fromFile reads one cloud of clouds.yaml, with what secure.yaml adds to it.
func fromFile(name string, env func(string) string) (cloud, string, error) {
	var c cloud
	path, err := find("clouds", "OS_CLIENT_CONFIG_FILE", env)
	if err != nil {
		return c, "", err
	}
	if path == "" {
		return c, "", hint.Add(fmt.Errorf("cloud %q: there is no clouds.yaml", name),
			"put one in ~/.config/openstack or set OS_CLIENT_CONFIG_FILE (looked in %s)", strings.Join(folders(env), ", "))
	}
	entries, err := read(path)
	if err != nil {
		return c, "", err
	}
	entry, ok := entries[name]
	if !ok {
		return c, "", hint.Add(fmt.Errorf("cloud %q is not in %s", name, path),
			"%s", "choose one that is there: "+quoted(slices.Sorted(maps.Keys(entries))))
	}
	where := fmt.Sprintf("cloud %q of %s", name, path)
	if err := entry.Decode(&c); err != nil {
		return c, "", fmt.Errorf("%s: %w", where, err)
	}
	path, err = find("secure", "OS_CLIENT_SECURE_FILE", env)
	if err != nil || path == "" {
		return c, where, err
	}
	if entries, err = read(path); err != nil {
		return c, "", err
	}
	if entry, ok := entries[name]; ok {
		if err := entry.Decode(&c); err != nil { // adds to what is there
			return c, "", fmt.Errorf("cloud %q of %s: %w", name, path, err)
		}
	}
	return c, where, nil
}

// known lists the clouds of clouds.yaml, as the tail of a hint.
func known(env func(string) string) (path, names string) {
	path, err := find("clouds", "OS_CLIENT_CONFIG_FILE", env)
	if err != nil || path == "" {
		return "", ""
	}
	entries, err := read(path)
	if err != nil || len(entries) == 0 {
		return path, ""
	}
	return path, fmt.Sprintf(" (clouds in %s: %s)", path, quoted(slices.Sorted(maps.Keys(entries))))
}

// folders is where openstacksdk looks for its files.
func folders(env func(string) string) []string {
	config := env("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(env("HOME"), ".config")
	}
	return []string{".", filepath.Join(config, "openstack"), "/etc/openstack"}
}

// find returns the path of a file of openstacksdk, or "" if there is none. A
// file that a variable names must be there.
func find(base, variable string, env func(string) string) (string, error) {
	if path := env(variable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", hint.Add(fmt.Errorf("%s: %w", variable, err), "correct %s, or unset it", variable)
		}
		return path, nil
	}
	for _, dir := range folders(env) {
		for _, extension := range []string{".yaml", ".yml", ".json"} {
			path := filepath.Join(dir, base+extension)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	return "", nil
}

// read returns the clouds of a file, undecoded.
func read(path string) (map[string]yaml.Node, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, hint.Add(fmt.Errorf("cannot read %s: permission denied", path), "run as the user that the file belongs to")
	}
	if err != nil {
		return nil, err
	}
	var file struct {
		Clouds map[string]yaml.Node `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file.Clouds, nil
}

func quoted(names []string) string {
	if len(names) == 0 {
		return "(none)"
	}
	return strings.Join(names, ", ")
}

// first is the first word that is not empty.
func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}
