/**
 * What a lab is, as data, and its one file on disk: any later process can enter or remove the lab from it.
 */
import type { ImageKind, Suite } from "./images.ts";
import { type ProcessRecord, unifiedHierarchy } from "./process.ts";

/** How a host is made: a systemd container on this machine's kernel, or a virtual machine with its own. */
export type HostKind = "container" | "machine";

/** A host as it is ordered. */
export interface HostOptions {
  /** Host name, also its name in the lab. */
  readonly name: string;
  /** External address in 198.51.100.0/24, 1..249. */
  readonly address: string;
  /** Mobula's host id, for the inventory; default: the address's last number. */
  readonly id?: number;
  /** Default: what the lab's other hosts are. */
  readonly kind?: HostKind;
  /** Default: trixie. */
  readonly suite?: Suite;
  /** Default: prepared. */
  readonly image?: ImageKind;
  /** MTU of the NIC in bytes, for a virtual machine also of its end in the underlay; default: 1500. */
  readonly mtu?: number;
  /** Gives a container a disk of its own, of so many MiB: one that can be full. Default: this machine's. */
  readonly diskMiB?: number;
  /** Further words for a virtual machine's kernel. */
  readonly kernelArguments?: string;
  /** Further files: absolute path → text, written before the first start. */
  readonly files?: Readonly<Record<string, string>>;
}

/** A host of a lab. */
export interface LabHost
  extends Required<Omit<HostOptions, "files" | "mtu" | "diskMiB" | "kernelArguments">> {
  readonly diskMiB?: number;
  mtu?: number;
  readonly kernelArguments?: string;
  /** Holds the host's disk and console log. */
  readonly directory: string;
  readonly cgroup: string;
  /** Directories below the host's own layer, the lowest last; for a virtual machine the directory of its image. */
  readonly layers: readonly string[];
  /** Missing while the host is switched off. */
  process?: ProcessRecord;
}

/** A machine of the lab that is a namespace only: the admin's laptop, a client. */
export interface LabNode {
  readonly name: string;
  readonly namespace: string;
  readonly address: string;
}

/** Everything needed to enter or remove a lab. */
export interface LabState {
  readonly schema: 1;
  readonly name: string;
  readonly directory: string;
  /** The namespace of the underlay and the world; those of nodes begin with it and a dot. */
  readonly namespace: string;
  /** The control group above all processes of the lab. */
  readonly cgroup: string;
  readonly processes: ProcessRecord[];
  readonly nodes: LabNode[];
  readonly hosts: LabHost[];
}

/** Where labs keep their directories. */
export const LABS_DIRECTORY = "/var/tmp/mobula-lab";

/** A lab without anything in it yet. */
export function newState(name: string): LabState {
  if (!/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/.test(name)) {
    throw new Error(`Cannot name a lab "${name}"; expected 1 to 22 lower-case letters, digits and dashes`);
  }
  return {
    schema: 1,
    name,
    directory: `${LABS_DIRECTORY}/${name}`,
    namespace: `mobula-${name}`,
    cgroup: `${unifiedHierarchy()}/mobula-lab/${name}`,
    processes: [],
    nodes: [],
    hosts: [],
  };
}

/** Reads the state of a lab; `undefined` when there is none of this name. */
export function loadState(name: string): LabState | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(`${newState(name).directory}/lab.json`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Writes the state; a reader sees the old or the new one, never half of it. */
export function saveState(state: LabState): void {
  const path = `${state.directory}/lab.json`;
  Deno.writeTextFileSync(`${path}.new`, JSON.stringify(state, undefined, 2) + "\n");
  Deno.renameSync(`${path}.new`, path);
}

/** Names of all labs that have a directory. */
export function labNames(): string[] {
  try {
    return [...Deno.readDirSync(LABS_DIRECTORY)].filter((entry) => entry.isDirectory).map((entry) =>
      entry.name
    ).sort();
  } catch {
    return [];
  }
}
