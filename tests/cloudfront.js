// Runs a CloudFront function: one event a line on standard input, what the function returns for it on standard output.
// The function sees what the runtime has, and nothing of Node: its module "crypto" is the only one there is.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const readline = require("node:readline");
const vm = require("node:vm");

function createHash(algorithm) {
    const hash = crypto.createHash(algorithm);
    return {
        update(text) {
            hash.update(text);
            return this;
        },
        digest(encoding) {
            return hash.digest(encoding);
        }
    };
}

function load(name) {
    if (name !== "crypto") {
        throw new Error(`the runtime has no module ${name}`);
    }
    return { createHash };
}

const context = vm.createContext({ require: load }, { codeGeneration: { strings: false, wasm: false } });
const code = fs.readFileSync(process.argv[2], "utf8");
vm.runInContext(`"use strict";\n${code}\nglobalThis.handler = handler;`, context, { filename: process.argv[2] });

readline.createInterface({ input: process.stdin }).on("line", function (line) {
    context.line = line;
    let answer;
    try {
        answer = vm.runInContext("JSON.stringify(handler(JSON.parse(line)))", context, { timeout: 1000 });
    } catch (error) {
        answer = JSON.stringify({ thrown: String(error) });
    }
    process.stdout.write(`${answer}\n`);
});
