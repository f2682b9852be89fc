/**
 * Looks at a host before anything is there: one POSIX shell script, one round trip, no change. Effects: through the connection
 * it is given; the script's text and the parser are pure.
 */
import { HostError } from "../errors.ts";
import type { HostFacts, HostStateFile } from "../facts.ts";
import { FILE_IDENTITY, HASH_FILE } from "../host/paths.ts";
import { parseServices, SERVICES_SCRIPT } from "../net/services.ts";
import { plainText } from "../plain.ts";
import { checkFacts, isState } from "./facts_schema.ts";
import { HOST_EXECUTABLE } from "./host_call.ts";
import type { SshRunner } from "./ssh.ts";

/**
 * The script. It prints lines `key=value`, and sections `[name]` whose lines are indented by one space, so that no line of a
 * file or a command can be taken for a key. Its one argument is the port on which this SSH session arrived (sudo drops it).
 * What the shell can do by itself starts no program: there are many hosts, and each is looked at in every push.
 */
export const LOOK_SCRIPT = `LC_ALL=C; export LC_ALL
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"; export PATH
port=$1
set -f
newline='
'
say() { printf '%s=%s\\n' "$1" "$2"; }
# The lines of a text, and of what is read.
indent() { IFS=$newline; [ -z "$1" ] || printf ' %s\\n' $1; unset IFS; }
section() { printf '[%s]\\n' "$1"; while IFS= read -r line || [ -n "$line" ]; do printf ' %s\\n' "$line"; done; }
have() { command -v "$1" >/dev/null 2>&1; }
state=/opt/mobula/state.json
say mobula-look 1
say clock "$(date +%s)"
uid=
{ while read -r key _ effective _ && [ "$key" != Uid: ]; do :; done </proc/self/status && uid=$effective; } 2>/dev/null
say uid "\${uid:-$(id -u)}"
# Since Linux 6.1.
machine=
{ read -r machine </proc/sys/kernel/arch; } 2>/dev/null
say architecture "\${machine:-$(uname -m)}"
kernel=
{ read -r kernel </proc/sys/kernel/osrelease; } 2>/dev/null
say kernel "\${kernel:=$(uname -r)}"
name=
{ read -r name </proc/sys/kernel/hostname; } 2>/dev/null
say hostname "\${name:-$(uname -n)}"
say ssh-port "$port"
if [ -d /run/systemd/system ]; then say systemd yes; else say systemd no; fi
dir=/opt; [ -d "$dir" ] || dir=/
df -Pk "$dir" 2>/dev/null | { free=; read -r _ && read -r _ _ _ free _; say free-kib "$free"; }
[ ! -r /etc/os-release ] || section os-release </etc/os-release
if [ -f ${HOST_EXECUTABLE} ] && [ -x ${HOST_EXECUTABLE} ]; then
  # A push leaves the hash for this boot; it holds as long as inode, size and times stay.
  memory=${HASH_FILE}; known=; hash=; id=
  if [ -f $memory ]; then id=$(stat -c '${FILE_IDENTITY}' ${HOST_EXECUTABLE} 2>/dev/null); fi
  if [ -f $memory ]; then { read -r known; read -r hash; } <$memory; fi
  if [ -z "$id" ] || [ "$known" != "$id" ] || [ "\${#hash}" != 64 ]; then
    hash=$(sha256sum ${HOST_EXECUTABLE} 2>/dev/null); hash=\${hash%% *}
  fi
  say executable "$hash"
fi
if [ -f "$state" ]; then section state <"$state"; fi
if [ -f /opt/mobula/baseline.json ]; then
  recorded=0
  while read -r line || [ -n "$line" ]; do case $line in *'"services"'*) recorded=1; break ;; esac; done </opt/mobula/baseline.json
  say recorded-services $recorded
fi
# Sorts what \`ip\` says, a line an object: addresses, routes, the first default route, and the link of the name given.
sort_objects() {
  addresses= routes= default= link=
  IFS=$newline
  for line in $1; do
    # What comes behind belongs to a route of several next hops.
    line=\${line%%\\\\*}
    case $line in
      [0-9]*": "*" inet "*) addresses=$addresses$line$newline ;;
      [0-9]*": $2: "* | [0-9]*": $2@"*) link=$line ;;
      [0-9]*": "*) ;;
      *) routes=$routes$line$newline; case $line in default*) default=\${default:-$line} ;; esac ;;
    esac
  done
  unset IFS
}
gateway=no
if have ip; then
  say ip yes
  # The admin's bridge of virtual machines, if veth_fac0 is in one.
  bridge=
  [ ! -e /sys/class/net/veth_fac0/master ] || bridge=$(readlink /sys/class/net/veth_fac0/master 2>/dev/null)
  say access-bridge "\${bridge##*/}"
  # Also after an installation that was cut off: what counts is where the external address is.
  if [ -e /run/netns/mobula ]; then
    sort_objects "$(printf '%s\\n' 'addr show dev mo-ext-gw' 'route show default' 'link show dev mo-ext-gw' |
      ip -n mobula -4 -o -force -batch - 2>/dev/null)" mo-ext-gw
    if [ -n "$addresses" ]; then
      gateway=yes
      echo '[gateway-addresses]'; indent "$addresses"
      say default-route "$default"
      say external-link "$link"
    fi
  fi
  told=$(printf '%s\\n' 'addr show' 'route show' 'link show' | ip -4 -o -force -batch - 2>/dev/null)
  sort_objects "$told" ''
  echo '[addresses]'; indent "$addresses"
  echo '[routes]'; indent "$routes"
  if [ "$gateway" = no ]; then
    say default-route "$default"
    case $default in
      *' dev '*) dev=\${default#* dev }; sort_objects "$told" "\${dev%% *}" ;;
    esac
    say external-link "$link"
  fi
else
  say ip no
fi
sockets=$(${SERVICES_SCRIPT})
if have ss; then
  echo '[ssh-listeners]'
  IFS=$newline
  for line in $sockets; do
    case $line in tcp*":$port "*) printf ' %s\\n' "\${line#tcp}" ;; esac
  done
  unset IFS
fi
# A kernel's WireGuard has no process. Without \`ss\` the lines are those of /proc: there 51820 is CA6C.
used= user=
IFS=$newline
for line in $sockets; do
  case $line in udp*':51820 '*) used=yes ;; udp*': '*':CA6C '*) used=yes ;; esac
  case $line in udp*':51820 '*'users:(('*) user=\${line#*users:((}; user=\${user%%,fd=*} ;; esac
done
unset IFS
[ -z "$used" ] || say udp-51820 "\${user:-the kernel or an unknown process}"
modules=/lib/modules/$kernel
known='wireguard|openvswitch|geneve|nf_tables|nft_chain_nat|nft_chain_nat_ipv4|veth|bridge|tun'
loadable=
if [ -e "$modules/modules.dep" ] || [ -e "$modules/modules.builtin" ]; then
  loadable=$(grep -hosE "/($known)\\\\.ko" "$modules/modules.dep" "$modules/modules.builtin")
fi
can() { [ -e "/sys/module/$1" ] || case $loadable in *"/$1.ko"*) ;; *) false ;; esac; }
# A gateway with its address runs on all of these.
works() { [ "$gateway" = yes ]; }
# A kernel without a folder of modules has it built in, if at all. All are asked for at once: the file is long.
symbols=
symbol() {
  [ -n "$symbols" ] || symbols=:$(grep -hoswE 'nf_tables_newtable|nft_nat_do_chain|veth_newlink|br_dev_setup' /proc/kallsyms)
  case $symbols in *"$1"*) ;; *) false ;; esac
}
# Whether it can really not be used, tried in a namespace that ends with the trial. Where nothing can be tried, a container's kernel
# may still bring it as soon as it is asked for.
fails() {
  if have "$1" && have unshare && unshare -n true; then ! unshare -n "$@"; else [ ! -e /run/systemd/container ]; fi </dev/null >/dev/null 2>&1
}
missing=
for name in wireguard openvswitch geneve; do can "$name" || missing="$missing $name"; done
can nf_tables || works || symbol nf_tables_newtable || ! fails nft list tables || missing="$missing nf_tables"
# Linux before 5.1 has it under another name.
can nft_chain_nat || can nft_chain_nat_ipv4 || works || symbol nft_nat_do_chain ||
  ! fails nft 'add table ip t; add chain ip t c { type nat hook postrouting priority 100; }' || missing="$missing nft_chain_nat"
can veth || works || symbol veth_newlink || ! fails ip link add mo-probe type veth || missing="$missing veth"
can bridge || works || symbol br_dev_setup || ! fails ip link add mo-probe type bridge || missing="$missing bridge"
if [ -n "$missing" ]; then
  say missing-modules "$missing"
  kernels=
  set +f
  for path in /lib/modules/*; do [ ! -e "$path" ] || kernels="$kernels\${path##*/} "; done
  set -f
  say kernels "$kernels"
  if [ -e /dev/net/tun ] || can tun; then say tun yes; fi
  if have wireguard-go; then say wireguard-go yes; fi
  if [ -e /run/systemd/container ]; then say container yes; fi
fi
echo '[services]'; indent "$sockets"
say mobula-look-end 1
`;

/** What the script printed, not yet understood. */
interface Answer {
  readonly values: ReadonlyMap<string, string>;
  readonly sections: ReadonlyMap<string, readonly string[]>;
}

/** Runs the script on a host and reads its answer; errors begin with the host's name. */
export async function look(host: string, ssh: SshRunner): Promise<HostFacts> {
  const sudo = ssh.become ? ["sudo", "-n", "--"] : [];
  const start = ["sh", "-c", 'exec "$@" sh -s "${SSH_CONNECTION##* }"', "sh", ...sudo];
  const { stdout, stderr, code } = await ssh.exec(start, { stdin: LOOK_SCRIPT, become: false });
  if (!stdout.includes("mobula-look-end=1")) {
    throw new HostError(explainFailure(host, code, stderr, ssh.become));
  }
  return checkFacts(host, parseLook(plainText(stdout, Infinity)));
}

function explainFailure(host: string, code: number, stderr: string, become: boolean): string {
  const said = stderr.trim().split("\n").at(-1) ?? "";
  if (become && /sudo/.test(stderr)) {
    return `${host}: Cannot become root: ${said}; expected sudo without a password. ` +
      "Give the user NOPASSWD in sudoers, or log in as root (ansible_user: root)";
  }
  return `${host}: Cannot look at host: "sh -s" ended with ${code}${
    said ? ` (${said})` : ""
  }; expected a POSIX shell`;
}

/** The script's output → facts. */
export function parseLook(output: string): HostFacts {
  const { values, sections } = splitAnswer(output);
  const os = parseOsRelease(sections.get("os-release") ?? []);
  const route = parseDefaultRoute(values.get("default-route") ?? "");
  const mtu = values.get("external-link")?.match(/ mtu (\d+)/)?.[1];
  const bridge = values.get("access-bridge");
  const addresses = [...sections.get("addresses") ?? [], ...sections.get("gateway-addresses") ?? []]
    .flatMap(parseAddress);
  const external = {
    interface: route.externalInterface,
    addresses: addresses.filter((one) => one.interface === route.externalInterface).map(({ address }) =>
      address
    ),
  };
  return {
    osId: os.get("ID") ?? "",
    osIdLike: (os.get("ID_LIKE") ?? "").split(/\s+/).filter((word) => word !== ""),
    osVersion: os.get("VERSION_ID") ?? "",
    osName: os.get("PRETTY_NAME") ?? os.get("NAME") ?? "an unknown system",
    architecture: values.get("architecture") ?? "",
    kernel: values.get("kernel") ?? "",
    systemd: values.get("systemd") === "yes",
    root: values.get("uid") === "0",
    hostname: values.get("hostname") ?? "",
    freeMiB: Math.floor(Number(values.get("free-kib") || "0") / 1024),
    sshPort: Number(values.get("ssh-port") || "22"),
    sshListeners: (sections.get("ssh-listeners") ?? []).flatMap((line) =>
      line.trim().split(/\s+/).slice(3, 4)
    ),
    ...route,
    ...(mtu ? { externalMtu: Number(mtu) } : {}),
    addresses,
    ...(bridge ? { accessBridge: bridge } : {}),
    routes: (sections.get("routes") ?? []).filter((line) => !bridge || !line.includes(` dev ${bridge} `))
      .flatMap(parseRoute),
    ...(values.get("executable") ? { executableHash: values.get("executable")! } : {}),
    ...parseState(sections.get("state")),
    clock: Number(values.get("clock") || "0"),
    wireguardPortUser: values.get("udp-51820") ?? "",
    ...parseLacks(values),
    services: parseServices(sections.get("services") ?? [], external),
    ...(values.get("recorded-services") === "0" ? { servicesUnrecorded: true } : {}),
  };
}

function parseLacks(values: Answer["values"]): Pick<HostFacts, "lacks"> {
  const words = (key: string) => (values.get(key) ?? "").split(/\s+/).filter((word) => word !== "");
  const modules = words("missing-modules");
  if (modules.length === 0) return {};
  const isThere = (key: string) => values.get(key) === "yes";
  return {
    lacks: {
      modules,
      kernels: words("kernels"),
      container: isThere("container"),
      tun: isThere("tun"),
      wireguardGo: isThere("wireguard-go"),
    },
  };
}

function splitAnswer(output: string): Answer {
  const values = new Map<string, string>();
  const sections = new Map<string, string[]>();
  let lines: string[] = [];
  // What a login script prints comes before the script's own first line.
  const start = output.search(/^mobula-look=1$/m);
  for (const line of output.slice(Math.max(0, start)).split("\n")) {
    const [, section] = line.match(/^\[([a-z-]+)\]$/) ?? [];
    const [, key, value] = line.match(/^([a-z0-9-]+)=(.*)$/) ?? [];
    if (section) sections.set(section, lines = []);
    else if (line.startsWith(" ")) lines.push(line.slice(1));
    else if (key) values.set(key, value!.trim());
  }
  return { values, sections };
}

/** `/etc/os-release`: shell assignments, the values quoted or not. */
function parseOsRelease(lines: readonly string[]): Map<string, string> {
  return new Map(lines.flatMap((line) => {
    const [, key, value] = line.match(/^([A-Z_]+)=(.*)$/) ?? [];
    return key ? [[key, value!.trim().replace(/^(["'])(.*)\1$/, "$2").replace(/\\([\\"'$`])/g, "$1")]] : [];
  }));
}

/** `default via 192.0.2.1 dev eth0 proto dhcp …` → interface and gateway. */
function parseDefaultRoute(line: string): { externalInterface?: string; defaultGateway?: string } {
  const device = line.match(/ dev (\S+)/)?.[1];
  const via = line.match(/ via (\S+)/)?.[1];
  return { ...(device ? { externalInterface: device } : {}), ...(via ? { defaultGateway: via } : {}) };
}

/** `2: eth0    inet 192.0.2.7/24 brd … scope global eth0\ …` → interface and address; `eth0@if3` loses its tail. */
function parseAddress(line: string): { interface: string; address: string }[] {
  const [, link, address] = line.match(/^\d+: (\S+?)(?:@\S+)?\s+inet (\S+)/) ?? [];
  if (!link || !address) return [];
  return [{ interface: link, address: address.includes("/") ? address : `${address}/32` }];
}

/** `10.0.0.0/8 via … dev …` → its destination and, if it is one of ours, nothing. */
function parseRoute(line: string): string[] {
  const [first = "", second = ""] = line.trim().split(/\s+/);
  const destination = /^(unreachable|blackhole|prohibit|broadcast|local|multicast)$/.test(first)
    ? second
    : first;
  if (destination === "" || OUR_LINKS.test(line)) return [];
  return [destination === "default" || destination.includes("/") ? destination : `${destination}/32`];
}

const OUR_LINKS = / dev (veth_\S+|mo-\S+|ovsbr-mobula)/;

function parseState(lines: readonly string[] | undefined): { state?: HostStateFile } {
  if (!lines) return {};
  try {
    const state = JSON.parse(lines.join("\n"));
    if (isState(state)) return { state };
  } catch {
    // Half a file is what an interrupted installation may leave: reported as such below.
  }
  return {
    state: { schema: 1, status: "installing", phase: "unknown", since: "an unknown time", generation: 0 },
  };
}
