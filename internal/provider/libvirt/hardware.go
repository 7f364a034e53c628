package libvirt

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/tenks/tenks/internal/machine"
)

// hardware is a node as its BMC controls it.
type hardware struct {
	p             *Provider
	cluster, node string
	uuid          libvirt.UUID
	bad           error // the UUID is none
}

// Hardware implements [provider.Controls].
//
// Of the boot devices, pxe, disk and cdrom put the node's devices of that kind
// before all others. The rest (setup, safe, diag, floppy) is not supported:
// neither SeaBIOS nor OVMF can be told from outside. Whether a node boots by
// BIOS or UEFI is decided in the cluster file; Boot.EFI changes nothing.
//
// The domain's definition is never rewritten. A boot override goes into the
// running domain, and one for the next boot only is taken out of it again as
// soon as that boot has begun.
func (p *Provider) Hardware(clusterName, node, uuid string) machine.Hardware {
	h := &hardware{p: p, cluster: clusterName, node: node}
	h.uuid, h.bad = parseUUID(uuid)
	return h
}

// On implements [machine.Hardware].
func (h *hardware) On() (bool, error) {
	if h.bad != nil {
		return false, nodeError(h.node, h.bad)
	}
	on, there, err := h.p.power.get(h.uuid)
	switch {
	case err != nil:
		return false, fmt.Errorf("node %s: its power state is not known: %w", h.node, err)
	case !there:
		return false, absent(h.node)
	}
	return on, nil
}

// with finds the node's domain and calls f.
func (h *hardware) with(ctx context.Context, f func(*libvirt.Libvirt, found) error) error {
	if h.bad != nil {
		return nodeError(h.node, h.bad)
	}
	return h.p.work.do(ctx, func(l *libvirt.Libvirt) error {
		dom, err := l.DomainLookupByUUID(h.uuid)
		if libvirt.IsNotFound(err) {
			return absent(h.node)
		}
		if err != nil {
			return nodeError(h.node, err)
		}
		d, err := read(l, dom, h.cluster)
		if err != nil {
			return nodeError(h.node, err)
		}
		if !d.ours {
			return stranger(h.node, &d)
		}
		return nodeError(h.node, f(l, d))
	})
}

// running is with for actions on a machine that is on.
func (h *hardware) running(ctx context.Context, f func(*libvirt.Libvirt, found) error) error {
	return h.with(ctx, func(l *libvirt.Libvirt, d found) error {
		if d.dom.ID < 0 {
			return machine.ErrOff
		}
		err := f(l, d)
		if is(err, libvirt.ErrOperationInvalid) && isOff(l, d.dom) {
			return machine.ErrOff
		}
		return err
	})
}

func isOff(l *libvirt.Libvirt, dom libvirt.Domain) bool {
	state, _, err := l.DomainGetState(dom, 0)
	return err == nil && libvirt.DomainState(state) == libvirt.DomainShutoff
}

// Start implements [machine.Hardware].
func (h *hardware) Start(ctx context.Context, b machine.Boot) error {
	err := h.with(ctx, func(l *libvirt.Libvirt, d found) error {
		if d.dom.ID >= 0 {
			return nil
		}
		normal := bootKeys(bootOrder(d.xml))
		order, err := overrideOrder(d.xml, b)
		if err != nil {
			return err
		}
		if b.Device == machine.DeviceDefault {
			_, err = l.DomainCreateWithFlags(d.dom, 0)
		} else {
			// libvirt runs what it is given and keeps the definition that
			// it has for this UUID.
			setBootOrder(d.xml, order)
			_, err = l.DomainCreateXML(d.xml.String(), 0)
		}
		if is(err, libvirt.ErrOperationInvalid) && !isOff(l, d.dom) {
			return nil // somebody else was faster
		}
		if err == nil && b.Device != machine.DeviceDefault && !b.Persistent {
			h.restore(l, d.dom, normal)
		}
		return err
	})
	if err == nil {
		h.p.power.awaitPower(ctx, h.uuid, true)
	}
	return err
}

// restore gives a domain its own boot order back for the next boot. The
// firmware reads the order that was set when the machine was reset.
func (h *hardware) restore(l *libvirt.Libvirt, dom libvirt.Domain, normal []string) {
	if err := setLiveOrder(l, dom, normal); err != nil {
		// The machine is on, and that was the question.
		h.p.o.Log.Warn("the boot override stays until the node is switched off", "node", h.node, "err", err)
	}
}

// Stop implements [machine.Hardware].
func (h *hardware) Stop(ctx context.Context) error {
	err := h.with(ctx, func(l *libvirt.Libvirt, d found) error { return stop(l, d.dom) })
	if err == nil {
		h.p.power.awaitPower(ctx, h.uuid, false)
	}
	return err
}

// resetTime is how long a reset may take to begin.
const resetTime = 5 * time.Second

// Reset implements [machine.Hardware].
func (h *hardware) Reset(ctx context.Context, b machine.Boot) error {
	return h.running(ctx, func(l *libvirt.Libvirt, d found) error {
		normal := bootKeys(bootOrder(d.xml))
		order, err := overrideOrder(d.xml, b)
		if err != nil {
			return err
		}
		// Also without an override: an earlier one may have been persistent.
		if err := setLiveOrder(l, d.dom, bootKeys(order)); err != nil {
			return err
		}
		before := h.p.power.countResets(h.uuid)
		if err := l.DomainReset(d.dom, 0); err != nil {
			return err
		}
		if b.Device != machine.DeviceDefault && !b.Persistent {
			h.p.power.await(ctx, resetTime, func() bool { return h.p.power.resets[h.uuid] > before })
			h.restore(l, d.dom, normal)
		}
		return nil
	})
}

// Shutdown implements [machine.Hardware].
func (h *hardware) Shutdown(ctx context.Context) error {
	return h.running(ctx, func(l *libvirt.Libvirt, d found) error {
		return l.DomainShutdownFlags(d.dom, libvirt.DomainShutdownAcpiPowerBtn)
	})
}

// Interrupt implements [machine.Hardware].
func (h *hardware) Interrupt(ctx context.Context) error {
	return h.running(ctx, func(l *libvirt.Libvirt, d found) error { return l.DomainInjectNmi(d.dom, 0) })
}

// bootKeys names devices by what is the same in a domain's definition and in
// the running domain.
func bootKeys(devices []*element) []string {
	keys := make([]string, len(devices))
	for i, e := range devices {
		keys[i] = bootKey(e)
	}
	return keys
}

func bootKey(e *element) string {
	if e.name == "interface" {
		return "interface " + mac(e)
	}
	return e.name + " " + e.at("target").attr("dev")
}

// liveIndex is the first bootindex that is given to a running QEMU: higher than
// any that libvirt gives, so that no two devices ever have the same.
const liveIndex = 1000

// setLiveOrder sets the boot order that the running domain has after its next
// reset: QEMU hands the firmware a new list then. libvirt has no call for that.
func setLiveOrder(l *libvirt.Libvirt, dom libvirt.Domain, order []string) error {
	text, err := l.DomainGetXMLDesc(dom, 0)
	if err != nil {
		return err
	}
	live, err := parseXML(text)
	if err != nil {
		return err
	}
	type change struct {
		alias string
		index int
	}
	var out, in []change
	for _, k := range live.at("devices").kids {
		e, ok := k.(*element)
		if !ok || e.name != "disk" && e.name != "interface" {
			continue
		}
		alias := e.at("alias").attr("name")
		out = append(out, change{alias, -1})
		if i := slices.Index(order, bootKey(e)); i >= 0 {
			in = append(in, change{alias, liveIndex + i})
		}
	}
	for _, c := range append(out, in...) {
		if err := setBootIndex(l, dom, c.alias, c.index); err != nil {
			return err
		}
	}
	return nil
}

// setBootIndex sets a device's bootindex (QEMU QMP reference, qom-set).
func setBootIndex(l *libvirt.Libvirt, dom libvirt.Domain, alias string, index int) error {
	cmd, err := json.Marshal(map[string]any{
		"execute": "qom-set",
		"arguments": map[string]any{
			"path": "/machine/peripheral/" + alias, "property": "bootindex", "value": index,
		},
	})
	if err != nil {
		return err
	}
	reply, err := l.QEMUDomainMonitorCommand(dom, string(cmd), 0)
	if err != nil {
		return fmt.Errorf("boot order of %s: %w", alias, err)
	}
	var r struct {
		Error *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(reply), &r); err != nil {
		return fmt.Errorf("boot order of %s: %w", alias, err)
	}
	if r.Error != nil {
		return fmt.Errorf("boot order of %s: %s", alias, r.Error.Desc)
	}
	return nil
}
