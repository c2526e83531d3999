"use strict";

// Runs a module of this directory with the Python of `make` where it is there, else with one of the PATH.

const { spawnSync } = require("node:child_process");
const path = require("node:path");
const fs = require("node:fs");

const ROOT = path.dirname(__dirname);
const OURS = [".venv/bin/python", ".venv/Scripts/python.exe"].map((name) => path.join(ROOT, name));
const ON_PATH = ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python"]; // as in the Makefile
const NEW_ENOUGH = "import sys; sys.exit(sys.version_info < (3, 11))";

let found;

function findPython() {
  if (found === undefined) {
    const candidates = [...OURS.filter((name) => fs.existsSync(name)), ...ON_PATH];
    found = candidates.find((name) => spawnSync(name, ["-c", NEW_ENOUGH], { stdio: "ignore" }).status === 0);
  }
  if (found === undefined) {
    throw new Error("elasticpypi needs Python 3.11 or newer: install one, or run `make .venv/installed`");
  }
  return found;
}

/** Run `python -m <module> <arguments>` and return what it prints; an Error carries what it says is wrong. */
function runModule(module, args, extra = {}) {
  const ran = spawnSync(findPython(), ["-m", module, ...args], {
    cwd: ROOT,
    encoding: "utf8",
    env: { ...process.env, ...extra },
  });
  if (ran.error) throw ran.error;
  if (ran.status !== 0) throw new Error(ran.stderr.trim() || `python -m ${module} ended with ${ran.status}`);
  return { stdout: ran.stdout, stderr: ran.stderr };
}

module.exports = { runModule };
