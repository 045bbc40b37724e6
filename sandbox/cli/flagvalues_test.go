//go:build !hot

package cli

import (
	"encoding"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"sbx/sandbox"
)

// Each row is one flag, the value it takes, and what of the Spec it fills in, as JSON.
func TestValues(t *testing.T) {
	for _, test := range []struct{ flag, value, want string }{
		{"entrypoint", "", `{"Entrypoint":[]}`},
		{"entrypoint", "/bin/sh -c", `{"Entrypoint":["/bin/sh -c"]}`},
		{"entrypoint", `["/bin/sh","-c"]`, `{"Entrypoint":["/bin/sh","-c"]}`},
		{"workdir", "/a/../b/", `{"Workdir":"/b"}`},
		{"umask", "077", `{"Umask":63}`},
		{"tz", "Europe/Berlin", `{"Timezone":"Europe/Berlin"}`},
		{"tz", "local", `{"Timezone":"local"}`},
		{"hostname", "box-1.example", `{"Hostname":"box-1.example"}`},
		{"add-host", "a;b:10.0.0.1", `{"AddHosts":[{"Name":"a","Addr":"10.0.0.1"},{"Name":"b","Addr":"10.0.0.1"}]}`},
		{"add-host", "a:10.0.0.1,b:10.0.0.2", `{"AddHosts":[{"Name":"a","Addr":"10.0.0.1"},{"Name":"b","Addr":"10.0.0.2"}]}`},
		{"add-host", "a:::1", `{"AddHosts":[{"Name":"a","Addr":"::1"}]}`},
		{"add-host", "a:[fe80::1]", `{"AddHosts":[{"Name":"a","Addr":"fe80::1"}]}`},
		{"add-host", "a=10.0.0.1", `{"AddHosts":[{"Name":"a","Addr":"10.0.0.1"}]}`},
		{"add-host", "a:host-gateway", `{"AddHosts":[{"Name":"a","Addr":"host-gateway"}]}`},
		{"allow", "Example.com:443", `{"Allow":["example.com:443"]}`},
		{"allow", "192.0.2.0/24/udp", `{"Allow":["192.0.2.0/24/udp"]}`},
		{"deny", "*.example.com", `{"Deny":["*.example.com"]}`},
		{"net-log", "/tmp/../log", `{"NetLog":"/log"}`},
		{"dns", "8.8.8.8,::1", `{"DNS":["8.8.8.8","::1"]}`},
		{"dns-search", "example.com,.", `{"DNSSearch":["example.com","."]}`},
		{"dns-option", "ndots:5", `{"DNSOptions":["ndots:5"]}`},
		{"group-add", "wheel,100", `{"GroupAdd":["wheel","100"]}`},
		{"ipc", "shareable", `{"IPC":"shareable"}`},
		{"pid", "host", `{"PID":"host"}`},
		{"network", "none", `{"Network":"none"}`},
		{"net", "host", `{"Network":"host"}`},
		{"network", "bridge", `{"Network":"private"}`},
		{"network", "podman", `{"Network":"private"}`},
		{"network", "private:allow_host_loopback", `{"HostLoopback":true,"Network":"private"}`},
		{"allow", "a.test:443,192.0.2.0/24,*.b.test", `{"Allow":["a.test:443","192.0.2.0/24","*.b.test"]}`},
		{"network", "a,b", `{"Networks":[{"Name":"a"},{"Name":"b"}]}`},
		{"network", "a:alias=x,alias=y,ip=10.89.0.7,ip6=fd00::7", `{"Networks":[{"Name":"a","Aliases":["x","y"],"Wanted":["10.89.0.7","fd00::7"]}]}`},
		{"network", "private:host-loopback", `{"Network":"private","HostLoopback":true}`},
		{"network", "private:allow_host_loopback=true,port_handler=slirp4netns", `{"Network":"private","HostLoopback":true}`},
		{"network", "private:allow_host_loopback=false", `{"Network":"private"}`},
		{"network", "private:mtu=9000,cidr=10.9.0.0/16,enable_ipv6=false", `{"Network":"private","NetworkOptions":{"MTU":9000,"CIDR":"10.9.0.0/16","IPv6":false}}`},
		{"network", "slirp4netns:allow_host_loopback=true,mtu=1500", `{"Network":"slirp4netns","HostLoopback":true,"NetworkOptions":{"MTU":1500}}`},
		{"network", "pasta", `{"Network":"pasta"}`},
		{"network", "pasta:--map-gw,-T,5432,--mtu=1500", `{"Network":"pasta","NetworkOptions":{"Args":["--map-gw","-T","5432","--mtu","1500"]}}`},
		{"network", "private:outbound_addr=192.0.2.10,outbound_addr6=eth0", `{"Network":"private","NetworkOptions":{"Outbound":["192.0.2.10","eth0"]}}`},
		{"network", "a:mac=02-00-00-00-00-AA", `{"Networks":[{"MAC":"02:00:00:00:00:aa","Name":"a"}]}`},
		{"network", "private:mac=02:00:00:00:00:01", `{"MAC":"02:00:00:00:00:01","Network":"private"}`},
		{"network", "container:a.b", `{"Network":"container:a.b"}`},
		{"network", "ns:/proc/1/../2/ns/net", `{"Network":"ns:/proc/2/ns/net"}`},
		{"name", "0-a_B.c", `{"Name":"0-a_B.c"}`},
		{"image-volume", "bind", `{"ImageVolumes":"anonymous"}`},
		{"image-volume", "ignore", `{"ImageVolumes":"ignore"}`},
		{"shm-size", "1g", `{"ShmSize":1073741824}`},
		{"shm-size", "0", `{"ShmSize":0}`},
		{"sysctl", "net.ipv4.ip_forward=1", `{"Sysctls":[{"Key":"net.ipv4.ip_forward","Value":"1"}]}`},
		{"sysctl", "kernel.sem=250 32000 32 1024", `{"Sysctls":[{"Key":"kernel.sem","Value":"250 32000 32 1024"}]}`},
		{"sysctl", "net.a=1,net.b=2", `{"Sysctls":[{"Key":"net.a","Value":"1"},{"Key":"net.b","Value":"2"}]}`},
		{"sysctl", `"net.ipv4.ip_local_reserved_ports=80,443",net.b=2`, `{"Sysctls":[{"Key":"net.ipv4.ip_local_reserved_ports","Value":"80,443"},{"Key":"net.b","Value":"2"}]}`},
		{"ulimit", "nofile=1024:2048", `{"Rlimits":[{"Name":"nofile","Soft":1024,"Hard":2048}]}`},
		{"ulimit", "RLIMIT_CORE=0", `{"Rlimits":[{"Name":"core"}]}`},
		{"ulimit", "nproc=5:-1", `{"Rlimits":[{"Name":"nproc","Soft":5,"Hard":-1}]}`},
		{"ulimit", "memlock=unlimited", `{"Rlimits":[{"Name":"memlock","Soft":-1,"Hard":-1}]}`},
		{"ulimit", "host", `{"RlimitsOfHost":true}`},
		{"oom-score-adj", "-5", `{"OOMScoreAdj":-5}`},
		{"stop-signal", "term", `{"StopSignal":"SIGTERM"}`},
		{"stop-signal", "9", `{"StopSignal":"SIGKILL"}`},
		{"stop-signal", "RTMIN+3", `{"StopSignal":"37"}`},
		{"stop-signal", "SIGRTMAX-1", `{"StopSignal":"63"}`},
		{"stop-timeout", "5", `{"StopTimeout":5000000000}`},
		{"timeout", "2m", `{"Timeout":120000000000}`},
		{"label", "a=b=c", `{"Labels":[{"Key":"a","Value":"b=c"}]}`},
		{"label", "a", `{"Labels":[{"Key":"a"}]}`},
		{"sdnotify", "ignore", `{}`},
		{"cap-add", "net_admin,CAP_SYS_TIME", `{"Security":{"CapAdd":["NET_ADMIN","SYS_TIME"]}}`},
		{"cap-drop", "all", `{"Security":{"CapDrop":["ALL"]}}`},
		{"preset", "untrusted", `{"Security":{"Preset":"untrusted"}}`},
		{"security-opt", "no-new-privileges", `{"Security":{"NoNewPrivs":true}}`},
		{"security-opt", "no-new-privileges=false", `{"Security":{"NoNewPrivs":false}}`},
		{"security-opt", "no-new-privileges:true", `{"Security":{"NoNewPrivs":true}}`},
		{"security-opt", "seccomp=unconfined", `{"Security":{"Seccomp":"unconfined"}}`},
		{"security-opt", "seccomp:unconfined", `{"Security":{"Seccomp":"unconfined"}}`},
		{"security-opt", "mask=/proc/cpuinfo:/sys/x", `{"Security":{"Mask":["/proc/cpuinfo","/sys/x"]}}`},
		{"security-opt", "unmask=/proc/*", `{"Security":{"Unmask":["/proc/*"]}}`},
		{"security-opt", "unmask=all", `{"Security":{"Unmask":["ALL"]}}`},
		{"security-opt", "systempaths=unconfined", `{"Security":{"Unmask":["ALL"]}}`},
		{"security-opt", "proc-opts=hidepid=2,subset=pid", `{"Security":{"ProcOpts":["hidepid=2","subset=pid"]}}`},
		{"security-opt", "label=disable", `{"Security":{"Label":["disable"]}}`},
		{"security-opt", "label:type:x_t", `{"Security":{"Label":["type:x_t"]}}`},
		{"security-opt", "apparmor=unconfined", `{"Security":{"AppArmor":"unconfined"}}`},
		{"security-opt", "nested=true", `{"Security":{"Nested":true}}`},
		{"device", "/dev/null", `{"Devices":[{"Src":"/dev/null","Dst":"/dev/null"}]}`},
		{"device", "/dev/null:rw", `{"Devices":[{"Src":"/dev/null","Dst":"/dev/null"}]}`},
		{"device", "/dev/null:/dev/x:r", `{"Devices":[{"Src":"/dev/null","Dst":"/dev/x"}]}`},
		{"device", "/dev/null,/dev/zero:/dev/z", `{"Devices":[{"Src":"/dev/null","Dst":"/dev/null"},{"Src":"/dev/zero","Dst":"/dev/z"}]}`},
		{"expose", "80,81-90/udp", `{"Expose":[{"Protocol":"tcp","First":80,"Count":1},{"Protocol":"udp","First":81,"Count":10}]}`},
		{"publish", "80,8080:80/udp", `{"Ports":[{"Protocol":"tcp","Inside":80,"Count":1},{"Protocol":"udp","Host":8080,"Inside":80,"Count":1}]}`},
		{"publish-all", "true", `{"PublishAll":true}`},
		{"attach", "stdout,STDERR", `{"Attach":["stdout","stderr"]}`},
		{"unsetenv", "PATH,TERM", `{"UnsetEnv":["PATH","TERM"]}`},
		{"hosts-file", "none", `{"HostsFile":"none"}`},
		{"hosts-file", "testdata/hosts", `{"HostsFile":"testdata/hosts","HostsText":"192.0.2.1 unfinished"}`},
		{"hostuser", "root", hostRoot(t)},
		{"passwd", "false", `{"Passwd":false}`},
		{"read-only-tmpfs", "false", `{"ReadOnlyTmpfs":false}`},
		{"sig-proxy", "true", `{"SigProxy":true}`},
		{"sig-proxy", "false", `{}`},
		{"passwd-entry", "$USERNAME:*:$UID:$GID::$HOME:/bin/sh", `{"PasswdEntry":"$USERNAME:*:$UID:$GID::$HOME:/bin/sh"}`},
	} {
		r := newRunArgs(testApp())
		r.spec = sandbox.Spec{} // without defaults
		if err := setFlag(r, test.flag, test.value); err != nil {
			t.Errorf("--%s %s: %v", test.flag, test.value, err)
			continue
		}
		text := normal(t, filled(reflect.ValueOf(r.spec)))
		var want any
		if err := json.Unmarshal([]byte(test.want), &want); err != nil {
			t.Fatal(err)
		}
		if text != normal(t, want) {
			t.Errorf("--%s %s:\n got %s\nwant %s", test.flag, test.value, text, test.want)
		}
	}
}

func TestValuesRefused(t *testing.T) {
	for _, test := range []struct{ flag, value string }{
		{"entrypoint", "[1]"},
		{"entrypoint", "[unclosed"},
		{"workdir", "rel"},
		{"umask", "1777"}, {"umask", "9"},
		{"tz", "../../etc/shadow"}, {"tz", "/etc/localtime"}, {"tz", "a\nb"}, {"tz", "Nowhere/Land"},
		{"hostname", "x\nevil"}, {"hostname", "a b"}, {"hostname", "-x"}, {"hostname", strings.Repeat("a", 65)},
		{"add-host", "a"}, {"add-host", "a:b"}, {"add-host", "a\n1.2.3.4 b:1.2.3.4"}, {"add-host", ":1.2.3.4"},
		{"add-host", "a:1.2.3.4\nx"}, {"add-host", "a:fe80::1%eth0"},
		{"allow", ""}, {"allow", "a b"}, {"allow", "*"}, {"allow", "a.test\n"}, {"deny", ""}, {"deny", "192.0.2.1/24"},
		{"net-log", ""}, {"net-log", "-"},
		{"dns", "one.one"}, {"dns", "1.1.1.1\nnameserver 2.2.2.2"}, {"dns", ","},
		{"dns-search", "a b"}, {"dns-search", "a\nb"},
		{"dns-option", "a b"}, {"dns-option", ","}, {"dns-option", "a\nb"},
		{"group-add", ","}, {"group-add", "a:b"},
		{"hostuser", "a:b"}, {"hostuser", "no.such.user"}, {"hostuser", "a\nb"},
		{"passwd-entry", "a\nroot::0:0"},
		{"ipc", "wibble"}, {"pid", "container:x"}, {"uts", "shareable"}, {"cgroupns", "x"},
		{"network", "none:x"}, {"network", "slirp4netns:mtu=1"}, {"network", "slirp4netns:nonsense"},
		{"network", "pasta:"}, {"network", "pasta:--pid,/tmp/x"}, {"network", "pasta:-P,/tmp/x"}, {"network", "pasta:--log-file=/tmp/x"}, {"network", "pasta:--runas,0"},
		{"network", "pasta:--netns,/proc/1/ns/net"}, {"network", "pasta:-T"}, {"network", "pasta:-T,--pcap"}, {"network", "pasta:--map-gw=yes"}, {"network", "pasta:5432"},
		{"network", "pasta:--dns-forward,x"}, {"network", "pasta:-d"}, {"network", "pasta:--fd,3"},
		{"network", "my/net"}, {"network", "a,b:alias=x"}, {"network", "a:ip=::1"}, {"network", "a:mac=x"}, {"network", "private:mac=x"}, {"mac-address", "01:00:00:00:00:01"}, {"mac-address", "00:00:00:00:00:00"}, {"mac-address", "02:00:00:00:00"}, {"mac-address", "02:00:0a:00:02:02"}, {"mac-address", "02:00:00:00:00:00:00:01"}, {"network", "a,a"}, {"allow", "a.test,"}, {"allow", "a.test,,b.test"}, {"deny", "all"}, {"publish", "localhost:1:1"}, {"ip", "::1"}, {"ip", "x"}, {"ip6", "10.0.0.1"}, {"ip6", "fe80::1%eth0"}, {"network-alias", "a b"},
		{"network", "private:"}, {"network", "private:nonsense"}, {"network", "private:mtu=67"}, {"network", "private:mtu=65521"}, {"network", "private:mtu=x"},
		{"network", "private:cidr=10.0.2.0"}, {"network", "private:cidr=10.0.2.1/24"}, {"network", "private:cidr=10.0.2.0/26"}, {"network", "private:cidr=fd00::/64"},
		{"network", "private:cidr=127.0.0.0/8"}, {"network", "private:cidr=169.254.0.0/16"}, {"network", "private:cidr=224.0.0.0/8"}, {"network", "private:cidr=0.0.0.0/8"},
		{"network", "private:enable_ipv6=maybe"}, {"network", "private:outbound_addr=::1"}, {"network", "private:outbound_addr6=1.2.3.4"},
		{"network", "private:outbound_addr="}, {"network", "private:outbound_addr=a/b"}, {"network", "private:outbound_addr=abcdefghijklmnop"},
		{"network", "private:port_handler=x"}, {"network", "private:mtu=1500,"},
		{"network", "container:"}, {"network", "container:../x"}, {"network", "container:a:b"}, {"network", "ns:"}, {"network", "ns"},
		{"name", ""}, {"name", "../../x"}, {"name", "a\nb"}, {"name", "-a"}, {"name", strings.Repeat("a", 129)},
		{"image-volume", "x"},
		{"shm-size", "-1"},
		{"sysctl", "net.x"}, {"sysctl", "=1"}, {"sysctl", "a b=1"}, {"sysctl", "../x=1"}, {"sysctl", "net.x=1\n"},
		{"ulimit", "nofile"}, {"ulimit", "nofile=2:1"}, {"ulimit", "nofile=-1:5"}, {"ulimit", "nofile=x"}, {"ulimit", "nofile=1:2:3"},
		{"oom-score-adj", "1001"}, {"oom-score-adj", "x"},
		{"stop-signal", "0"}, {"stop-signal", "99"}, {"stop-signal", "SIGKILL\n"}, {"stop-signal", "SIGWIBBLE"}, {"stop-signal", "RTMIN+31"},
		{"stop-timeout", "-1"}, {"timeout", "soon"},
		{"label", "=x"},
		{"sdnotify", "conmon"}, {"sdnotify", "x"},
		{"cap-add", "wibble"}, {"cap-drop", ","}, {"cap-add", "NET_ADMIN,"}, {"cap-add", "\"NET_ADMIN\nx\""}, {"cap-add", "\"NET_ADMIN"},
		{"preset", "wibble"},
		{"security-opt", "wibble"}, {"security-opt", "seccomp="}, {"security-opt", "seccomp=/nonesuch"}, {"security-opt", "mask=rel"},
		{"security-opt", "proc-opts=gid=5"}, {"security-opt", "proc-opts=hidepid=2,rw"}, {"security-opt", "label=wibble"},
		{"security-opt", "systempaths=x"}, {"security-opt", "no-new-privileges=perhaps"},
		{"device", "null"}, {"device", "/etc/passwd"}, {"device", "/dev/null:/dev/x:q"}, {"device", "/dev/nonesuch"}, {"device", "vendor.com/gpu=all"},
		{"preserve-fd", "0"}, {"preserve-fd", "x"}, {"preserve-fd", "-1"}, {"preserve-fd", "999999"}, {"preserve-fds", "900000"},
		{"attach", "stdlog"}, {"unsetenv", ","}, {"env", "=x"}, {"unsetenv", "A=1"},
		{"hosts-file", "/nonesuch"}, {"hosts-file", "/etc"}, {"hosts-file", "/dev/zero"},
		{"env-file", "/nonesuch"},
		{"format", "xml"}, {"pull", "sometimes"}, {"retry", "-1"}, {"retry-delay", "x"},
		{"secret", "name"}, {"secret", "id=a"}, {"secret", "id=../x,env=HOME"}, {"secret", "id=a,env=HOME,src=/x"}, {"secret", "id=a,env=NONE"},
		{"secret", "id=a,env=HOME,target=../../etc/passwd"}, {"secret", "id=a,env=HOME,type=x"}, {"secret", "id=a,env=HOME,mode=9"},
		{"secret", "id=a,env=HOME,type=env,target=A=B"}, {"secret", "id=a,fd=999999"}, {"secret", "id=a,env=HOME,wibble=1"}, {"secret", "id=a,src=/dev/zero"},
	} {
		r := newRunArgs(testApp())
		if err := setFlag(r, test.flag, test.value); err == nil {
			t.Errorf("--%s %q was accepted", test.flag, test.value)
		}
	}
}

// Scripts pass --flag "$UNSET", and podman takes that as if the flag were not there.
func TestEmptyValues(t *testing.T) {
	var empty []string
	for _, name := range []string{
		"add-host", "arch", "authfile", "cap-add", "cap-drop", "cgroupns", "cgroups", "device", "dns", "dns-option", "dns-search", "env", "env-file",
		"expose", "gidmap", "group-add", "hostname", "hostuser", "image-volume", "ipc", "log-driver", "passwd-entry", "pid",
		"platform", "preset", "pull", "restart", "sdnotify", "shm-size", "stop-signal", "subuidname", "sysctl", "systemd", "tz", "uidmap", "ulimit",
		"umask", "unsetenv", "user", "userns", "uts", "workdir",
	} {
		empty = append(empty, "--"+name+"=")
	}
	without, _, _ := parseRun(nil)
	r, stderr, err := parseRun(append([]string{"--hostname=x", "--pid=host", "--umask=0", "--shm-size=1"}, empty...))
	if err != nil || stderr != "" || !reflect.DeepEqual(r.spec, without.spec) {
		t.Errorf("%v, stderr %q, %v", err, stderr, filled(reflect.ValueOf(r.spec)))
	}
	for _, name := range []string{"allow", "deny", "label", "mount", "net-log", "network", "oom-score-adj", "preserve-fds", "publish", "secret", "security-opt", "timeout", "tmpfs", "volume"} {
		if _, _, err := parseRun([]string{"--" + name + "="}); err == nil {
			t.Errorf("--%s '' was accepted", name)
		}
	}
}

// normal is v as JSON, with sorted keys.
func normal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err == nil {
		var plain any
		if err = json.Unmarshal(text, &plain); err == nil {
			text, err = json.Marshal(plain)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func setFlag(r *runArgs, name, value string) error {
	for i := range runFlags {
		if runFlags[i].name == name {
			return (&runValue{flag: &runFlags[i], args: r}).Set(value)
		}
	}
	panic("no flag " + name)
}

// filled gives what is set in v, with its zero fields left out, for JSON.
func filled(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		return filled(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Interface()
		}
		list := []any{}
		for i := range v.Len() {
			list = append(list, filled(v.Index(i)))
		}
		return list
	case reflect.Struct:
		if _, text := v.Interface().(encoding.TextMarshaler); text {
			return v.Interface()
		}
		fields := map[string]any{}
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				fields[v.Type().Field(i).Name] = filled(f)
			}
		}
		return fields
	}
	return v.Interface()
}

func TestSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	pw.WriteString("from a pipe")
	pw.Close()
	r := newRunArgs(testApp())
	for _, s := range []string{
		"id=a,src=" + file,
		"id=b,env=HOME,target=/etc/b,uid=5,gid=6,mode=0400",
		"id=c,target=sub/c,fd=" + itoa(inherited(t, pr)),
		"id=D,env=HOME,type=env",
	} {
		if err := r.addSecret(s); err != nil {
			t.Fatal(err)
		}
	}
	want := []sandbox.Secret{
		{ID: "a", Dst: "/run/secrets/a", Data: []byte("hunter2\n"), Mode: 0o444},
		{ID: "b", Dst: "/etc/b", Data: []byte("/home/ada"), UID: 5, GID: 6, Mode: 0o400},
		{ID: "c", Dst: "/run/secrets/sub/c", Data: []byte("from a pipe"), Mode: 0o444},
	}
	if !reflect.DeepEqual(r.spec.Secrets, want) {
		t.Errorf("got %+v", r.spec.Secrets)
	}
	if got := strings.Join(r.secretEnv, " "); got != "D=/home/ada" {
		t.Errorf("environment: %s", got)
	}
}

// inherited makes f look as if it had come through exec, and returns its descriptor.
func inherited(t *testing.T, f *os.File) int {
	t.Helper()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	return int(f.Fd())
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestPreserveFDs(t *testing.T) {
	var fds []int
	for range 3 {
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fds = append(fds, inherited(t, f))
	}
	r := newRunArgs(testApp())
	if err := setFlag(r, "preserve-fd", itoa(fds[0])+","+itoa(fds[2])); err != nil {
		t.Fatal(err)
	}
	if err := r.preserveFD(itoa(fds[0])); err != nil {
		t.Fatal(err)
	}
	own, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if err := r.preserveFD(itoa(int(own.Fd()))); err == nil {
		t.Error("a descriptor of our own was accepted")
	}
	if want := []int{fds[0], fds[2]}; !reflect.DeepEqual(r.spec.PreserveFDs, want) {
		t.Errorf("got %v, want %v", r.spec.PreserveFDs, want)
	}
}

func TestSeccompFile(t *testing.T) {
	good, bad := filepath.Join(t.TempDir(), "good"), filepath.Join(t.TempDir(), "bad")
	os.WriteFile(good, []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`), 0o600)
	os.WriteFile(bad, []byte(`{`), 0o600)
	r := newRunArgs(testApp())
	if err := r.addSecurityOpt("seccomp=" + good); err != nil {
		t.Fatal(err)
	}
	if r.spec.Security.Seccomp != "profile" || len(r.spec.Security.Profile) == 0 {
		t.Errorf("got %+v", r.spec.Security)
	}
	if err := r.addSecurityOpt("seccomp=" + bad); err == nil {
		t.Error("a profile that is not JSON was accepted")
	}
}

func TestImageConfig(t *testing.T) {
	img := v1.Image{Config: v1.ImageConfig{
		Env:        []string{"PATH=/bin", "SECRET_*", "A="}, // for the plan to judge
		Entrypoint: []string{"/e"},
		Cmd:        []string{"c"},
		User:       "app:app",
		WorkingDir: "../x",
		Volumes:    map[string]struct{}{"/b": {}, "/a/": {}, "/a": {}},
		StopSignal: "SIGQUIT",
	}}
	img.Architecture = "arm"
	got, err := imageConfig(img)
	want := sandbox.ImageConfig{
		Env: []string{"PATH=/bin", "SECRET_*", "A="}, Entrypoint: []string{"/e"}, Cmd: []string{"c"}, User: "app:app",
		WorkingDir: "../x", Volumes: []string{"/a", "/b"}, StopSignal: "SIGQUIT", Arch: "arm",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestImageConfigRefused(t *testing.T) {
	many := map[string]struct{}{}
	for i := range maxVolumes + 1 {
		many["/v"+itoa(i)] = struct{}{}
	}
	long := strings.Repeat("a", maxWord)
	for name, c := range map[string]v1.ImageConfig{
		"long word":      {Cmd: []string{long}},
		"much of it":     {Env: func() (e []string) { return append(e, make([]string, maxWords)...) }()},
		"NUL":            {Cmd: []string{"a\x00b"}},
		"NUL in workdir": {WorkingDir: "/a\x00"},
		"user":           {User: "root:../"},
		"negative user":  {User: "-1"},
		"huge user":      {User: "4294967296"},
		"signal 0":       {StopSignal: "0"},
		"signal 99":      {StopSignal: "99"},
		"signal line":    {StopSignal: "SIGKILL\n"},
		"volume rel":     {Volumes: map[string]struct{}{"../x": {}}},
		"volumes":        {Volumes: many},
	} {
		if _, err := imageConfig(v1.Image{Config: c}); err == nil {
			t.Errorf("%s was accepted", name)
		}
		overrule(&c, &sandbox.Spec{User: "0", Workdir: "/", StopSignal: "SIGTERM", ImageVolumes: "ignore"})
		_, err := imageConfig(v1.Image{Config: c})
		if hopeless := c.Cmd != nil || c.Env != nil; (err != nil) != hopeless {
			t.Errorf("%s, with flags that replace it: %v", name, err)
		}
	}
}

func TestRootfs(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "with:colon")
	os.Mkdir(odd, 0o700)
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	for in, want := range map[string]*sandbox.Root{
		dir:            {Dir: dir},
		dir + ":O":     {Dir: dir, Overlay: true},
		odd:            {Dir: odd},
		dir + ":x":     nil,
		dir + ":idmap": nil,
		file:           nil,
		dir + "/none":  nil,
	} {
		r := newRunArgs(testApp())
		err := r.setRootfs(in)
		if (err == nil) != (want != nil) || want != nil && !reflect.DeepEqual(r.spec.Root, *want) {
			t.Errorf("--rootfs %s: %+v, %v", in, r.spec.Root, err)
		}
	}
}
