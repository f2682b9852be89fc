/**
 * The command line: verbs, options, help. Effects: those of the verb that is called, whose module is loaded only then.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { buildInfo, renderBuildInfo } from "../build_info.ts";
import { EXIT } from "../errors.ts";
import { settleColours } from "../ui/colours.ts";
import { followCommand, hostCommand, undoCommand, upCommand } from "./up.ts";

/** A program whose verbs tell how they ended. */
export interface Program {
  /** Parses the arguments and runs one verb; gives the exit code, also where commander has explained what is wrong with them. */
  run(args: readonly string[], signal: AbortSignal): Promise<number>;
}

const DEFAULT_HOSTS = "hosts.yml";

const EXAMPLES = `
Examples:
  mobula push                      install or update all hosts of ./hosts.yml
  mobula push fleet/hosts.yml --limit web1,256
                                   only these hosts, by name, id or address
  mobula plan                      what would a push change?
  mobula verify                    does every host reach every other one?
  mobula keys generate             a key pair for an admin's WireGuard client

Exit codes: 0 done, 1 some hosts failed, 2 wrong usage or configuration, 3 no host could be reached,
4 changes wait (plan), 5 another push is under way, 70 a defect of mobula, 130 interrupted. See "mobula help <verb>" for the options of a verb.`;

/** Builds the whole command line. */
export function buildProgram(): Program {
  let code: number = EXIT.ok;
  let interrupt = new AbortController().signal;
  const done = (result: number) => void (code = result);
  const program = new Command("mobula")
    .description("Turns Linux servers into one encrypted, self-healing layer-2 network.")
    .version(renderBuildInfo(buildInfo()), "--version", "say which version and build this is")
    .addHelpText("after", EXAMPLES)
    .showSuggestionAfterError(true)
    .exitOverride();
  addPush(program, () => interrupt, done);
  addPlan(program, () => interrupt, done);
  addInstall(program, done);
  addKeys(program, done);
  addVerify(program, () => interrupt, done);
  addRollback(program, () => interrupt, done);
  addUninstall(program, () => interrupt, done);
  addInternal(program, () => interrupt, done);
  for (const command of program.commands) command.exitOverride();
  return {
    async run(args, signal) {
      interrupt = signal;
      settleColours();
      try {
        await program.parseAsync([...args], { from: "user" });
        return code;
      } catch (error) {
        if (!(error instanceof CommanderError)) throw error;
        return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
      }
    },
  };
}

type Done = (code: number) => void;

function addPush(program: Command, signal: () => AbortSignal, done: Done): void {
  program.command("push")
    .description("install or update all hosts over SSH")
    .argument(
      "[hosts.yml]",
      "the list of hosts; extra_hosts.yml and extra_wires.yml are read beside it",
      DEFAULT_HOSTS,
    )
    .addOption(limitOption())
    .addOption(parallelOption())
    .option("--no-reboot", "do not reboot newly installed hosts")
    .option("--keep-keys", "keep the WireGuard keys the hosts have", false)
    .option(
      "--reinstall",
      "install again on every host and reboot; repairs an interrupted installation",
      false,
    )
    .addOption(confirmOption())
    .option("--dry-run", "show what it would do and change nothing, like mobula plan", false)
    .addOption(sshConfigOption())
    .addOption(acceptOption())
    .addOption(new Option("--executable <file>", "put this file on the hosts").hideHelp())
    .addOption(verboseOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      examples([
        "mobula push",
        "mobula push --limit web1,198.51.100.3 --keep-keys",
        "mobula push --reinstall --no-reboot staging/hosts.yml",
      ]),
    )
    .action(async (hostsPath, options) => {
      const { dryRun, ...push } = options;
      const command = dryRun
        ? (await import("./plan.ts")).planCommand
        : (await import("./push.ts")).pushCommand;
      done(await command({ hostsPath, signal: signal(), ...push }));
    });
}

function addPlan(program: Command, signal: () => AbortSignal, done: Done): void {
  program.command("plan")
    .description("show what a push would do, compared with what is live; changes nothing")
    .argument("[hosts.yml]", "the list of hosts", DEFAULT_HOSTS)
    .addOption(limitOption())
    .addOption(parallelOption())
    .addOption(sshConfigOption())
    .addOption(acceptOption())
    .addOption(verboseOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `${
        examples(["mobula plan", "mobula plan --limit web1"])
      }\n\nAn executable on the hosts that is not this one is a change; started from source, none is made to compare with.` +
        "\n\nExit codes: 0 nothing to do, 4 changes wait.",
    )
    .action(async (hostsPath, options) => {
      const { planCommand } = await import("./plan.ts");
      done(await planCommand({ hostsPath, signal: signal(), ...options }));
    });
}

function addInstall(program: Command, done: Done): void {
  program.command("install")
    .description("install this very host, without a deployer")
    .argument("[directory]", "holds hosts.yml, the files beside it and wireguard_pubkeys.yml", ".")
    .requiredOption("--local", "on this host; there is no other way to install than push")
    .option(
      "--host-id <id>",
      "which host of hosts.yml this is, where neither address nor name tell",
      positive,
    )
    .option("--reinstall", "install again; repairs an interrupted installation", false)
    .addOption(verboseOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      examples(["mobula install --local", "mobula install --local /root/fleet --host-id 3"]),
    )
    .action(async (directory, options) => {
      const { installCommand } = await import("./install.ts");
      done(await installCommand({ directory, ...options }));
    });
}

function addKeys(program: Command, done: Done): void {
  const keys = program.command("keys")
    .description("list the hosts' WireGuard keys, or make a pair")
    .argument("[hosts.yml]", "the list of hosts", DEFAULT_HOSTS)
    .addOption(jsonOption())
    .addHelpText(
      "after",
      examples(["mobula keys", "mobula keys --json fleet/hosts.yml", "mobula keys generate"]),
    )
    .action(async (hostsPath, { json }) => {
      const { listKeys } = await import("./keys.ts");
      done(await listKeys(hostsPath, { json }));
    });
  keys.command("generate")
    .description(
      "print a new key pair, for a client in extra_wires.yml or to pin a host's; needs no WireGuard",
    )
    .addOption(jsonOption())
    .addHelpText("after", examples(["mobula keys generate", "mobula keys generate --json"]))
    .exitOverride()
    .action(async (_options, command) => {
      const { printKeyPair } = await import("./keys.ts");
      done(await printKeyPair({ json: Boolean(command.optsWithGlobals().json) }));
    });
}

function addVerify(program: Command, signal: () => AbortSignal, done: Done): void {
  program.command("verify")
    .description("judge the network: let every host reach every other one, and say what is broken")
    .argument("[hosts.yml]", "the list of hosts", DEFAULT_HOSTS)
    .option("--wait <seconds>", "ask again for what does not answer, so long", seconds, 10)
    .option("--quick", "pings, names and keys alone", false)
    .option("--junit <file>", "write the results as JUnit's XML too")
    .addOption(limitOption())
    .addOption(parallelOption())
    .addOption(sshConfigOption())
    .addOption(acceptOption())
    .addOption(verboseOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      examples([
        "mobula verify",
        "mobula verify --wait 60 --json fleet/hosts.yml",
        "mobula verify --junit results.xml",
      ]),
    )
    .action(async (hostsPath, options) => {
      const { verifyCommand } = await import("./verify.ts");
      done(await verifyCommand({ hostsPath, signal: signal(), ...options }));
    });
}

function addRollback(program: Command, signal: () => AbortSignal, done: Done): void {
  program.command("rollback")
    .description("bring all hosts back to the generation before the present one")
    .argument("[hosts.yml]", "the list of hosts", DEFAULT_HOSTS)
    .addOption(limitOption())
    .addOption(parallelOption())
    .addOption(confirmOption())
    .addOption(sshConfigOption())
    .addOption(acceptOption())
    .addOption(verboseOption())
    .addOption(jsonOption())
    .addHelpText("after", examples(["mobula rollback", "mobula rollback --limit web1 fleet/hosts.yml"]))
    .action(async (hostsPath, options) => {
      const { rollbackCommand } = await import("./rollback.ts");
      done(await rollbackCommand({ hostsPath, signal: signal(), ...options }));
    });
}

function addUninstall(program: Command, signal: () => AbortSignal, done: Done): void {
  program.command("uninstall")
    .description("give the hosts their own network back and remove everything of mobula's but the packages")
    .argument("[hosts.yml]", "the list of hosts", DEFAULT_HOSTS)
    .option("--local", "this very host, without a deployer; needs no hosts.yml", false)
    .option("--purge", "also remove the packages that mobula has installed", false)
    .addOption(limitOption())
    .addOption(parallelOption())
    .addOption(sshConfigOption())
    .addOption(acceptOption())
    .addOption(new Option("--executable <file>", "put this file on the hosts").hideHelp())
    .addOption(verboseOption())
    .addOption(jsonOption())
    .addHelpText("after", examples(["mobula uninstall --limit web1", "mobula uninstall --local"]))
    .action(async (hostsPath, { local, ...options }) => {
      const { uninstallCommand, uninstallHere } = await import("./uninstall.ts");
      done(
        await (local
          ? uninstallHere(options)
          : uninstallCommand({ hostsPath, signal: signal(), ...options })),
      );
    });
}

/** What systemd and the deployer call on a host: here for the help and for wrong arguments, `findHostVerb` finds the right ones. */
function addInternal(program: Command, signal: () => AbortSignal, done: Done): void {
  program.command("undo", { hidden: true })
    .description("take back what nobody has confirmed (run by systemd)")
    .action(async () => done(await undoCommand()));
  program.command("follow", { hidden: true })
    .description("follow the hosts to their new keys (run by systemd)")
    .action(async () => done(await followCommand(signal())));
  program.command("up", { hidden: true })
    .description("bring up the network of the current generation (run by systemd)")
    .action(async () => done(await upCommand()));
  program.command("host", { hidden: true })
    .description("do one thing a deployer asks for; the request comes as JSON on standard input")
    .argument("<verb>")
    .action(async (verb) => {
      done(await hostCommand(verb));
    });
}

function limitOption() {
  return new Option(
    "--limit <hosts>",
    "only these hosts: names, ids or addresses, separated by commas; not those behind a !",
  )
    .argParser((text) => text.split(",").map((word) => word.trim()).filter((word) => word !== ""))
    .default([] as string[], "all");
}

function parallelOption() {
  return new Option("--parallel <n>", "hosts at a time").argParser(positive).default(20);
}

function confirmOption() {
  return new Option(
    "--confirm-timeout <seconds>",
    "a host that was not verified and confirmed so soon goes back to what it was",
  ).argParser(confirmSeconds).default(120);
}

function confirmSeconds(text: string): number {
  const value = seconds(text);
  if (value < 5) throw new InvalidArgumentError("Expected at least 5 seconds.");
  return value;
}

function sshConfigOption() {
  return new Option("--ssh-config <file>", "ssh's configuration file, instead of ~/.ssh/config");
}

function acceptOption() {
  return new Option(
    "--accept-new-host-keys",
    "trust SSH host keys that are not known yet; never changed ones",
  )
    .default(false);
}

function verboseOption() {
  return new Option("--verbose", "tell every step").default(false);
}

function jsonOption() {
  return new Option("--json", "one JSON document on standard output, nothing else").default(false);
}

function positive(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError("Expected a whole number from 1.");
  return Number(text);
}

function seconds(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError("Expected a whole number of seconds.");
  return Number(text);
}

function examples(lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join("\n")}`;
}
