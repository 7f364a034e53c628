package libvirt

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/tenks/tenks/internal/machine"
)

// bootDevices returns what a domain can boot from, by kind and in the order of
// the XML, which is that of the guest's PCI bus.
func bootDevices(domain *element) map[machine.Device][]*element {
	devs := map[machine.Device][]*element{}
	list := domain.at("devices")
	for _, d := range list.all("disk") {
		switch d.attr("device") {
		case "disk", "":
			devs[machine.DeviceDisk] = append(devs[machine.DeviceDisk], d)
		case "cdrom":
			devs[machine.DeviceCDROM] = append(devs[machine.DeviceCDROM], d)
		}
	}
	devs[machine.DevicePXE] = list.all("interface")
	return devs
}

// defaultBootOrder: disks, then NICs, then CD drives.
func defaultBootOrder(domain *element) {
	devs := bootDevices(domain)
	setBootOrder(domain, slices.Concat(devs[machine.DeviceDisk], devs[machine.DevicePXE], devs[machine.DeviceCDROM]))
}

// setBootOrder makes order the boot order of a domain. Other devices are not
// booted from.
func setBootOrder(domain *element, order []*element) {
	if os := domain.at("os"); os != nil {
		os.removeAll("boot") // excludes an order by device
	}
	for _, k := range domain.at("devices").kids {
		if e, ok := k.(*element); ok {
			e.removeAll("boot")
		}
	}
	for i, e := range order {
		e.child("boot").setAttr("order", strconv.Itoa(i+1))
	}
}

// bootOrder returns the devices that a domain boots from, first to last.
func bootOrder(domain *element) []*element {
	type ordered struct {
		*element
		at int
	}
	var found []ordered
	for _, k := range domain.at("devices").kids {
		if e, ok := k.(*element); ok {
			if n, err := strconv.Atoi(e.at("boot").attr("order")); err == nil {
				found = append(found, ordered{e, n})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b ordered) int { return a.at - b.at })
	order := make([]*element, len(found))
	for i, o := range found {
		order[i] = o.element
	}
	return order
}

// overrideOrder returns the domain's boot order with the devices that b asks for moved
// to the front. They keep their order among themselves, as all others do. The
// error wraps [machine.ErrUnsupported] if the domain has no such device.
func overrideOrder(domain *element, b machine.Boot) ([]*element, error) {
	order := bootOrder(domain)
	if b.Device == machine.DeviceDefault {
		return order, nil
	}
	first := slices.Clone(bootDevices(domain)[b.Device])
	if len(first) == 0 {
		return nil, fmt.Errorf("boot device %q: %w", b.Device, machine.ErrUnsupported)
	}
	rank := func(e *element) int {
		if i := slices.Index(order, e); i >= 0 {
			return i
		}
		return len(order) // not booted from by default: after those that are
	}
	slices.SortStableFunc(first, func(a, b *element) int { return rank(a) - rank(b) })
	for _, e := range order {
		if !slices.Contains(first, e) {
			first = append(first, e)
		}
	}
	return first, nil
}
