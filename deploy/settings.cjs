"use strict";

// ${file(./deploy/settings.cjs):…} of serverless.yml: the configuration, as the application itself reads it.

const { runModule } = require("./python.cjs");

let resolved;

module.exports = ({ options }) => {
  if (resolved === undefined) {
    // `--stage` and `--region` count as the variables do.
    const extra = {};
    if (options.stage) extra.ELASTICPYPI_STAGE = options.stage;
    if (options.region) extra.ELASTICPYPI_REGION = options.region;
    try {
      resolved = JSON.parse(runModule("deploy.settings", [], extra).stdout);
    } catch (error) {
      error.name = error.stack = ""; // or `sls` prints it, too
      throw error;
    }
  }
  return resolved;
};
