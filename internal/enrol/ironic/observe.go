package ironic

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/tenks/tenks/internal/cluster"
	"github.com/tenks/tenks/internal/enrol"
)

// Observe implements [enrol.Enroller]. It lists all nodes and all ports of the
// service, in pages of the size that the service allows.
func (e *Enroller) Observe(ctx context.Context, clusterName string) (enrol.Found, error) {
	var found enrol.Found
	nodes, err := e.client.nodes(ctx, e.client.nodeFields())
	if err != nil {
		return found, fmt.Errorf("list the nodes of Ironic at %s: %w", e.client.root.Redacted(), err)
	}
	ports, err := e.client.ports(ctx)
	if err != nil {
		return found, fmt.Errorf("list the ports of Ironic at %s: %w", e.client.root.Redacted(), err)
	}
	of := map[string][]port{} // by node
	for _, p := range ports {
		of[p.Node] = append(of[p.Node], p)
	}
	for i := range nodes {
		n := &nodes[i]
		m, ok := n.mark()
		if ok && m.Cluster == clusterName {
			found.Enrolments = append(found.Enrolments, n.enrolment(m, of[n.UUID]))
			delete(of, n.UUID)
			continue
		}
		if n.Name != "" {
			found.Strangers = append(found.Strangers, cluster.Stranger{
				Kind: cluster.StrangerNode, Name: n.Name, Owner: n.owner()})
		}
	}
	for _, list := range of {
		for _, p := range list {
			m, ok := p.mark()
			found.Strangers = append(found.Strangers, cluster.Stranger{
				Kind: cluster.StrangerMAC, Name: strings.ToLower(p.Address), Owner: owner(m.Cluster, ok)})
		}
	}
	slices.SortFunc(found.Enrolments, func(a, b cluster.Enrolment) int { return strings.Compare(a.Node, b.Node) })
	slices.SortFunc(found.Strangers, func(a, b cluster.Stranger) int {
		return strings.Compare(string(a.Kind)+"\x00"+a.Name, string(b.Kind)+"\x00"+b.Name)
	})
	return found, nil
}

// nodes lists the nodes of the service.
func (c *client) nodes(ctx context.Context, fields string) ([]node, error) {
	var all []node
	err := c.pages(ctx, query("/v1/nodes", "fields", fields), func(path string) (string, error) {
		var page struct {
			Nodes []node `json:"nodes"`
			Next  string `json:"next"`
		}
		err := c.do(ctx, "GET", path, nil, &page)
		all = append(all, page.Nodes...)
		return page.Next, err
	})
	return all, err
}

// ports lists the ports of the service that match the pairs of a query.
func (c *client) ports(ctx context.Context, pairs ...string) ([]port, error) {
	var all []port
	path := query("/v1/ports", append([]string{"fields", portFields}, pairs...)...)
	err := c.pages(ctx, path, func(path string) (string, error) {
		var page struct {
			Ports []port `json:"ports"`
			Next  string `json:"next"`
		}
		err := c.do(ctx, "GET", path, nil, &page)
		all = append(all, page.Ports...)
		return page.Next, err
	})
	return all, err
}

// pages follows the links to the next page. Only their query is taken: the
// rest is what the service takes its own address for, which proxies change.
func (c *client) pages(ctx context.Context, path string, get func(path string) (next string, err error)) error {
	bare, _, _ := strings.Cut(path, "?")
	seen := map[string]bool{}
	for {
		seen[path] = true
		next, err := get(path)
		if err != nil || next == "" {
			return err
		}
		u, err := url.Parse(next)
		if err != nil {
			return errors.New("the link to the next page is no URL")
		}
		path = bare + "?" + u.RawQuery
		if seen[path] {
			return errors.New("the links to the next page go in a circle")
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
