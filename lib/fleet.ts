/**
 * The checked configuration: what `hosts.yml`, `extra_hosts.yml` and `extra_wires.yml` say, and what of it a host is told. Data only.
 */
import type { Secret } from "./secret.ts";

/** How `veth_fac0` is configured: left blank for the admin, or given address, default route and resolver. */
export type AccessMode = "none" | "auto";

/** When the host's own gateway has lost its way to the Internet, default traffic and names take another host's gateway. */
export interface Egress {
  /** Addresses on the Internet that answer a ping: the way there is lost when none of them does. */
  readonly probes: readonly string[];
}

/** How the access network switches; the same on all hosts. */
export interface Switching {
  /** `direct`: known unicast takes one hop; `tree`: everything takes the spanning tree. */
  readonly mode: "direct" | "tree";
  /** Milliseconds between two BFD packets on each path. */
  readonly bfdInterval: number;
  /** So many of them missing: the path is dead. */
  readonly bfdMultiplier: number;
  /** Broadcast and unknown frames that one host may send into the network, packets per second. */
  readonly floodLimit: number;
}

/** How the deployer reaches a host; what is missing is left to the ssh configuration. */
export interface SshTarget {
  readonly host: string;
  readonly port?: number;
  readonly user?: string;
  readonly identityFile?: string;
  /** Run commands through `sudo -n`. */
  readonly become: boolean;
}

/** WireGuard keys given in `hosts.yml` itself (base64, 32 bytes each). */
export interface PinnedKeys {
  readonly publicKey: string;
  readonly privateKey: Secret;
}

/** One port of the external address that leads to the host itself. */
export interface Forward {
  readonly external: number;
  /** The host's own port. */
  readonly internal: number;
  readonly protocol: "tcp" | "udp";
}

/** One host of `hosts.yml`. */
export interface Host {
  /** The external IPv4 address: the key in `hosts.yml` and the WireGuard endpoint. */
  readonly address: string;
  /** 1..32767, unique. */
  readonly id: number;
  readonly hostname: string;
  readonly access: AccessMode;
  /** Missing where there is no other way out than the host's own. */
  readonly egress?: Egress;
  readonly ssh: SshTarget;
  readonly forward?: readonly Forward[];
  /** Forward every port, too, that was in use there before the installation. */
  readonly preserveServices?: boolean;
  readonly pinnedKeys?: PinnedKeys;
}

/** A further name on the access network. */
export interface ExtraHost {
  readonly address: string;
  readonly hostname: string;
}

/** An admin's WireGuard client. */
export interface ExtraWire {
  /** Without the `/32`. */
  readonly address: string;
  readonly publicKey: string;
}

/** The whole checked configuration, hosts by ascending id, the extras by ascending address. */
export interface Fleet {
  readonly hosts: readonly Host[];
  readonly extraHosts: readonly ExtraHost[];
  readonly extraWires: readonly ExtraWire[];
  /** `mobula_keys: keep`: do not make new WireGuard keys at every push. */
  readonly keepKeys: boolean;
  /** `mobula_mtu`: the underlay's MTU in bytes, where it must not be taken from the hosts' NICs. */
  readonly underlayMtu?: number;
  readonly switching: Switching;
}

/** What every host may know of another host. */
export interface PeerHost {
  readonly address: string;
  readonly id: number;
  readonly hostname: string;
  /** Missing as long as the host has never been installed: it is then left out of the mesh. */
  readonly publicKey?: string;
  /** Only where its access link is left without an address. */
  readonly access?: "none";
}

/** The configuration as one host receives it and keeps it in its generation: no secret of anybody. */
export interface HostConfig {
  readonly schema: 1;
  /** The id of the host that this is for. */
  readonly self: number;
  readonly access: AccessMode;
  /** Missing where there is no other way out than the host's own. */
  readonly egress?: Egress;
  /** Smallest underlay MTU of the fleet, bytes. */
  readonly underlayMtu: number;
  readonly switching: Switching;
  /** All hosts, this one too, by ascending id. */
  readonly hosts: readonly PeerHost[];
  readonly extraHosts: readonly ExtraHost[];
  readonly extraWires: readonly ExtraWire[];
  /** Missing where nothing but SSH is forwarded to this host by name. */
  readonly forward?: readonly Forward[];
  readonly preserveServices?: boolean;
}
