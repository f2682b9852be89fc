/**
 * The calls of a push to one host that is a stand-in, in the order of lib/deploy/phases.ts: each over a connection as the deployer makes
 * them. Effects: those of the actions on the stand-in.
 */
import { hostConfigFor } from "../../lib/host_config.ts";
import type { Fleet } from "../../lib/fleet.ts";
import { activate } from "../../lib/host/activate.ts";
import { confirm } from "../../lib/host/confirm.ts";
import type { Context } from "../../lib/host/context.ts";
import { prepare } from "../../lib/host/prepare.ts";
import { stage } from "../../lib/host/stage.ts";
import { status } from "../../lib/host/status.ts";
import type { StatusResult } from "../../lib/host/protocol.ts";
import type { FakeHost } from "../fake_host.ts";
import { fleetOf, keyOf } from "../net/fixtures.ts";
import type { VirtualTime } from "./virtual_time.ts";

/** How one push differs from a plain one. */
export interface PushChanges {
  readonly reinstall?: boolean;
  readonly keys?: "keep" | "rotate";
  /** Changes of the fleet. */
  readonly fleet?: Partial<Fleet>;
}

/** Id of the host that is pushed to, and its external address. */
export const SELF = 2;
export const ADDRESS = "192.0.0.2";

/** Pushes to one host of a fleet of two. */
export class Deployer {
  #connections = 0;
  readonly #host: FakeHost;
  readonly #time: VirtualTime;

  constructor(host: FakeHost, time: VirtualTime) {
    this.#host = host;
    this.#time = time;
  }

  /** What sshd says of a new connection. */
  connect(): string {
    return `198.51.100.1 ${40000 + ++this.#connections} ${ADDRESS} 22`;
  }

  /** All of it; rejects with what fails. */
  async push(changes: PushChanges = {}): Promise<void> {
    const generation = await this.activated(changes);
    await this.call("confirm", (context) => confirm({ generation }, context), this.connect());
  }

  /** All but the confirmation; gives the generation. */
  async activated(changes: PushChanges = {}): Promise<number> {
    const connection = this.connect();
    const generation = await this.staged(changes, connection);
    const { cutsConnection } = await this.call(
      "activate",
      (context) => activate({ generation }, context),
      connection,
    );
    const { activation, error } = cutsConnection ? await this.#awaitEnd() : { activation: "done" };
    if (activation !== "done") throw new Error(`Cannot activate: ${activation}: ${error}`);
    return generation;
  }

  async staged({ reinstall = false, keys = "keep", fleet = {} }: PushChanges, connection: string) {
    const request = { keys, reinstall, sshPort: 22 };
    const { publicKey } = await this.call("prepare", (context) => prepare(request, context), connection);
    const pubkeys = new Map([[ADDRESS, { publicKey }], ["192.0.0.3", { publicKey: keyOf(3) }]]);
    const config = hostConfigFor(fleetOf([SELF, 3], fleet), SELF, pubkeys, 1500);
    return (await this.call("stage", (context) => stage({ config }, context), connection)).generation;
  }

  call<T>(verb: string, action: (context: Context) => Promise<T>, connection: string): Promise<T> {
    return this.#host.process(verb, action, connection);
  }

  async #awaitEnd(): Promise<StatusResult> {
    while (true) {
      const seen = await this.call(
        "status",
        (context) => status({ extendSeconds: 120 }, context),
        this.connect(),
      );
      if (seen.activation !== "running") return seen;
      await this.#time.pause(1000);
    }
  }
}
