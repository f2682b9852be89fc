/**
 * The words of zod's errors. It sets them in a module of its own, which a bundle in several files leaves out. Pure, but for that setting.
 */
import { config } from "zod";
import en from "zod/locales/en";

config(en());
