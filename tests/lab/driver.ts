/**
 * What the lab asks of a way to make hosts: systemd containers today; virtual machines implement the same. Types only.
 */
import type { Image, ImageKind, Suite } from "./images.ts";
import type { CommandResult, ProcessRecord, RunOptions } from "./process.ts";
import type { LabHost, LabState } from "./state.ts";

/** Options of a command on a host. */
export interface HostExecOptions extends RunOptions {
  /** A named network namespace of the host. */
  readonly namespace?: string;
}

/** One kind of host. */
export interface HostDriver {
  /** Makes the image that hosts of this kind begin with, or finds it in the cache. */
  readonly ensureImage: (suite: Suite, kind: ImageKind) => Promise<Image>;
  /** What the host's external interface is called there, as systemd-networkd matches it. */
  readonly nicPattern: string;
  /** How long such a host may take until its SSH server greets. */
  readonly bootDeadlineMs: number;
  /** Makes the host's disk; the files are absolute path → text. */
  readonly create: (host: LabHost, files: Readonly<Record<string, string>>) => Promise<void>;
  /** Switches the host on. */
  readonly start: (state: LabState, host: LabHost) => Promise<ProcessRecord>;
  /** Runs a command on the running host, without its network. */
  readonly exec: (host: LabHost, argv: readonly string[], options: HostExecOptions) => Promise<CommandResult>;
  /**
   * The command line that runs a program in the host's network, or in a named namespace of it: this machine's program in a container,
   * the host's own in a virtual machine.
   */
  readonly enterNetwork: (host: LabHost, namespace: string | undefined, argv: readonly string[]) => string[];
  /** Takes the power away, and waits until nothing of the host runs. */
  readonly cut: (state: LabState, host: LabHost) => Promise<void>;
  /** Why the started host will never greet, if that can be told already. */
  readonly hopeless?: (host: LabHost) => string | undefined;
  /** Something that differs after each start; `undefined` while the host is off. */
  readonly bootMark: (host: LabHost) => string | undefined;
}
