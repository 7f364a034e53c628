package ironic

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// configure writes ironic.conf. ports are those of the API, the JSON-RPC
// server and the HTTP server.
//
// Whatever is not set here lands in /var or /etc: the paths of all sections
// that have some are set, used or not.
func (i *Ironic) configure(ports []int) {
	i.t.Helper()
	auth := NoAuth
	if i.Username != "" {
		auth = HTTPBasic + "\nhttp_basic_auth_user_file = " + i.dir + "/htpasswd"
	}
	values := []string{
		"@auth@", auth, "@dir@", i.dir, "@address@", i.o.Address, "@url@", i.URL, "@debug@", fmt.Sprint(i.o.Debug),
		"@api@", fmt.Sprint(ports[0]), "@rpc@", fmt.Sprint(ports[1]), "@http@", i.HTTPURL,
	}
	text := strings.NewReplacer(values...).Replace(conf)
	if i.o.Fast {
		text += fast
	}
	for _, path := range []string{"/usr/lib/ipxe/undionly.kpxe", "/usr/lib/ipxe/snponly.efi"} {
		if _, err := os.Stat(path); err != nil {
			text = strings.ReplaceAll(text, "\nloader_file_paths", "\n#loader_file_paths")
		}
	}
	// oslo.config takes the last value of an option.
	for _, name := range slices.Sorted(maps.Keys(i.o.Set)) {
		section, option, ok := strings.Cut(name, ".")
		if !ok {
			section, option = "DEFAULT", name
		}
		text += fmt.Sprintf("[%s]\n%s = %s\n", section, option, i.o.Set[name])
	}
	must(i.t, os.WriteFile(i.conf(), []byte(text), 0o600))
}

const conf = `[DEFAULT]
debug = @debug@
use_stderr = true
log_color = false
auth_strategy = @auth@
rpc_transport = json-rpc
host = @address@
my_ip = @address@
state_path = @dir@
tempdir = @dir@/tmp
minimum_memory_warning_only = true
enabled_hardware_types = ipmi,fake-hardware,manual-management
enabled_bios_interfaces = no-bios,fake
enabled_boot_interfaces = ipxe,pxe,fake
enabled_console_interfaces = ipmitool-socat,no-console,fake
enabled_deploy_interfaces = direct,ramdisk,fake
enabled_inspect_interfaces = no-inspect,fake
enabled_management_interfaces = ipmitool,noop,fake
enabled_network_interfaces = noop
enabled_power_interfaces = ipmitool,agent,fake
enabled_raid_interfaces = no-raid,agent,fake
enabled_rescue_interfaces = no-rescue,agent,fake
enabled_storage_interfaces = noop,fake
enabled_vendor_interfaces = ipmitool,no-vendor,fake
default_network_interface = noop
[api]
host_ip = @address@
port = @api@
api_workers = 1
[json_rpc]
auth_strategy = noauth
host_ip = @address@
port = @rpc@
[database]
connection = sqlite:///@dir@/ironic.sqlite
sqlite_synchronous = false
[conductor]
automated_clean = false
file_url_allowed_paths = @dir@
[agent]
certificates_path = @dir@/certificates
deploy_logs_local_path = @dir@/deploy_logs
[console]
terminal_pid_dir = @dir@/consoles
socat_address = @address@
[deploy]
http_root = @dir@/httpboot
http_url = @http@
iso_master_path = @dir@/master_iso
[dhcp]
dhcp_provider = none
[oslo_concurrency]
lock_path = @dir@/locks
[oslo_messaging_notifications]
driver = noop
[oslo_policy]
policy_dirs = @dir@/policy.d
[pxe]
images_path = @dir@/images
instance_master_path = @dir@/master_images
tftp_root = @dir@/tftpboot
tftp_master_path = @dir@/tftpboot/master_images
loader_file_paths = undionly.kpxe:/usr/lib/ipxe/undionly.kpxe,snponly.efi:/usr/lib/ipxe/snponly.efi
[service_catalog]
endpoint_override = @url@
`

// fast is what Options.Fast adds.
const fast = `[ipmi]
min_command_interval = 1
command_retry_timeout = 10
[conductor]
sync_power_state_interval = 10
[agent]
post_deploy_get_power_state_retries = 1
post_deploy_get_power_state_retry_interval = 1
`
