package libvirt

import (
	"context"

	"github.com/digitalocean/go-libvirt"
)

// Ping tells whether libvirtd answers; the error has the way out as its hint.
func (p *Provider) Ping(ctx context.Context) error {
	return p.work.do(ctx, func(l *libvirt.Libvirt) error {
		_, err := l.ConnectGetLibVersion()
		return err
	})
}

// VirtType tells what new nodes are: "kvm" where that works, which is found out
// by trying, and "qemu" (emulation) where it does not.
func (p *Provider) VirtType(ctx context.Context) (string, error) { return p.virtType(ctx) }
