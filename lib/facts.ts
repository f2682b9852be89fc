/**
 * What is known of a host before anything is changed. Types only.
 */

/** The answer of the `look` script (see `lib/deploy/look.ts`), all read without a change. */
export interface HostFacts {
  /** `ID` and `VERSION_ID` of /etc/os-release; the version is empty on rolling releases. */
  readonly osId: string;
  readonly osIdLike: readonly string[];
  readonly osVersion: string;
  readonly osName: string;
  /** `uname -m`. */
  readonly architecture: string;
  readonly kernel: string;
  readonly systemd: boolean;
  readonly root: boolean;
  readonly hostname: string;
  /** Free space below /opt, MiB. */
  readonly freeMiB: number;
  /** The port on which this very SSH session arrived. */
  readonly sshPort: number;
  /** Local addresses with port on which sshd listens there, as `ss` prints them; empty if unknown. */
  readonly sshListeners: readonly string[];
  /** Interface of the IPv4 default route in the root namespace, or of the gateway when installed. */
  readonly externalInterface?: string;
  readonly externalMtu?: number;
  readonly defaultGateway?: string;
  /** IPv4 addresses (CIDR) with their interface, of the root namespace. */
  readonly addresses: readonly { readonly interface: string; readonly address: string }[];
  /** The admin's bridge that `veth_fac0` is in; it may carry the host's access address. */
  readonly accessBridge?: string;
  /** IPv4 routes' destinations in the root namespace, but for those of the access network. */
  readonly routes: readonly string[];
  /** SHA-256 (hex) of /opt/mobula/bin/mobula, if there is one. */
  readonly executableHash?: string;
  /** The text of /opt/mobula/state.json, if there is one. */
  readonly state?: HostStateFile;
  /** Seconds since 1970 on the host. */
  readonly clock: number;
  /** Who listens on UDP 51820 in the root namespace, empty if nobody. */
  readonly wireguardPortUser: string;
  /** What the kernel cannot do for us; undefined where it can do all. */
  readonly lacks?: KernelLacks;
  /** What answers at the external address, or on an installed host would if it were forwarded; SSH is among it. */
  readonly services: readonly Service[];
  /** Its baseline is of a version that did not record them. */
  readonly servicesUnrecorded?: boolean;
}

/** A kernel without some of the modules, and what else decides whether the host can do without. */
export interface KernelLacks {
  /** Of wireguard, openvswitch, geneve, nf_tables, nft_chain_nat, veth and bridge those that are neither there nor to be loaded. */
  readonly modules: readonly string[];
  /** Kernels whose modules are installed. */
  readonly kernels: readonly string[];
  /** The kernel is not the host's own. */
  readonly container: boolean;
  /** Whether there is /dev/net/tun, or the module for it. */
  readonly tun: boolean;
  /** Whether wireguard-go is installed. */
  readonly wireguardGo: boolean;
}

/** A program of the host that answers at its external address as long as mobula is not installed. */
export interface Service {
  readonly protocol: "tcp" | "udp";
  readonly port: number;
  /** Cleaned for printing; missing where nobody tells. */
  readonly program?: string;
  /** `address`: on the external address or interface alone, which go into the gateway; `ipv6`: by IPv6 alone. */
  readonly reach: "all" | "address" | "ipv6";
}

/** /opt/mobula/state.json: how far an installation came. */
export interface HostStateFile {
  readonly schema: 1;
  readonly status: "installing" | "installed";
  /** Phase of the push that wrote it. */
  readonly phase: string;
  /** ISO 8601, UTC. */
  readonly since: string;
  /** Current generation, 0 before the first. */
  readonly generation: number;
}

/** The external interface and what it carried before mobula: what the gateway takes over, what uninstall gives back. */
export interface Baseline {
  readonly schema: 1;
  readonly interface: string;
  /** Permanent MAC, lower case with colons. */
  readonly mac: string;
  /** Bytes. */
  readonly mtu: number;
  /** CIDR notation, v4 and v6, global scope. */
  readonly addresses: readonly string[];
  /** Of the main table. */
  readonly routes: readonly BaselineRoute[];
  /** The external interface's routes in all other tables but the kernel's own; missing in baselines of earlier versions. */
  readonly tableRoutes?: readonly TableRoute[];
  /** Which table is asked for what; missing in baselines of earlier versions. */
  readonly rules?: readonly BaselineRule[];
  /** Name servers' addresses, none of them loopback. */
  readonly resolvers: readonly string[];
  readonly search: readonly string[];
  /** /etc/resolv.conf as it was: a symbolic link's target or a file's text. */
  readonly resolvConf: { readonly link?: string; readonly text?: string };
  readonly sshPort: number;
  /** Who configured the host's network. */
  readonly managers: readonly NetworkManager[];
  /** What answered at the external address, SSH aside; missing in baselines of the first versions. */
  readonly services?: readonly Service[];
  /** Path → text of /etc/network/interfaces and the files in interfaces.d as they were, where ifupdown is installed. */
  readonly interfaces?: Readonly<Record<string, string>>;
}

/** A program that configures network cards and has to let go of ours. */
export type NetworkManager = "networkd" | "NetworkManager" | "ifupdown";

/** One route of the external interface. */
export interface BaselineRoute {
  readonly family: "inet" | "inet6";
  /** CIDR or `default`. */
  readonly destination: string;
  readonly via?: string;
  /** The preferred source address, where several could be. */
  readonly source?: string;
  readonly metric?: number;
  readonly onlink?: boolean;
  /** Who made it, as `ip` calls them; missing for `boot`, which is what `ip` itself makes. */
  readonly protocol?: string;
}

/** One route of the external interface in another table than the main one. */
export interface TableRoute extends BaselineRoute {
  /** As `ip` calls it: a number, or the name that the host has for it. */
  readonly table: string;
}

/** One policy rule. */
export interface BaselineRule {
  readonly family: BaselineRoute["family"];
  readonly priority: number;
  /** What `ip rule show` says behind the priority, which `ip rule add` takes: `from 198.51.100.2 lookup 100`. */
  readonly words: string;
}

/** The policy routing of a host: what is beside the main table. */
export type Policy = Pick<Required<Baseline>, "tableRoutes" | "rules">;

/** What the host can do, probed in a scratch namespace; decides kernel or userspace. */
export interface Capabilities {
  readonly wireguard: "kernel" | "userspace";
  /** Open vSwitch's `datapath_type`. */
  readonly datapath: "system" | "netdev";
}
