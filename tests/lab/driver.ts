/**
 * What the lab asks of a way to make hosts: systemd containers today; virtual machines implement the same. Types only.
 */
import type { CommandResult, ProcessRecord, RunOptions } from "./process.ts";
import type { LabHost, LabState } from "./state.ts";

/** Options of a command on a host. */
export interface HostExecOptions extends RunOptions {
  /** A named network namespace of the host. */
  readonly namespace?: string;
}

/** One kind of host. */
export interface HostDriver {
  /** Makes the host's disk; the files are absolute path → text. */
  readonly create: (host: LabHost, files: Readonly<Record<string, string>>) => Promise<void>;
  /** Switches the host on. */
  readonly start: (state: LabState, host: LabHost) => Promise<ProcessRecord>;
  /** Runs a command on the running host, without its network. */
  readonly exec: (host: LabHost, argv: readonly string[], options: HostExecOptions) => Promise<CommandResult>;
  /** The command line that runs this machine's program in the host's network, or in a named namespace of it. */
  readonly enterNetwork: (host: LabHost, namespace: string | undefined, argv: readonly string[]) => string[];
  /** Takes the power away, and waits until nothing of the host runs. */
  readonly cut: (state: LabState, host: LabHost) => Promise<void>;
  /** Something that differs after each start; `undefined` while the host is off. */
  readonly bootMark: (host: LabHost) => string | undefined;
}
