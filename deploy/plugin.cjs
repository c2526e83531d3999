"use strict";

// Builds the bundle when `sls` packages, says to CloudFormation what serverless.yml cannot, and has the new index look
// through its bucket once.

const fs = require("node:fs");
const path = require("node:path");

const { runModule } = require("./python.cjs");
const { authorizations, functionEnvironment } = require("./settings.cjs");

const VIEWER_REQUEST = path.join(__dirname, "..", "docs", "examples", "cloudfront-function.js");
const LARGEST_FUNCTION = 10240; // bytes, as CloudFront has it

class ElasticpypiPlugin {
  constructor(serverless, options, { log }) {
    this.serverless = serverless;
    this.options = options;
    this.log = log;
    this.hooks = {
      initialize: () => this.setEnvironment(),
      "before:package:createDeploymentArtifacts": () => this.build(),
      "before:deploy:function:packageFunction": () => this.build(),
      "after:deploy:deploy": () => this.synchronise(),
      "after:aws:package:finalize:mergeCustomProviderResources": () => {
        this.orderDeployment();
        this.fillViewerRequest();
      },
      "after:aws:common:moveArtifactsToPackage:move": () => this.hidePackage(),
      "after:aws:common:moveArtifactsToTemp:move": () => this.hidePackage(),
    };
  }

  get service() {
    return this.serverless.service;
  }

  // Not in serverless.yml, which would take a "${" in a password for a variable of its own, and which `sls print` shows.
  setEnvironment() {
    if (this.serverless.processedInput.commands[0] === "print") return;
    const environment = functionEnvironment(this.options);
    for (const [name, definition] of Object.entries(this.service.functions)) {
      definition.environment = {
        ...environment[name],
        ...definition.environment,
      };
    }
  }

  build() {
    const { architecture, python } = this.service.custom.bundle;
    const args = ["--architecture", architecture, "--python", python, "--output", this.service.package.artifact];
    const { stdout, stderr } = this.run("deploy.bundle", args);
    if (stderr) this.log.warning(stderr.trim());
    this.log.notice(stdout.trim());
  }

  run(module, args) {
    try {
      return runModule(module, args);
    } catch (error) {
      throw new this.serverless.classes.Error(error.message); // of any other error `sls` prints the stack
    }
  }

  // What is packaged has the password in it, in templates that `sls` lets everybody on the machine read.
  hidePackage() {
    const { serviceDir } = this.serverless;
    const directories = [".serverless", this.options.package, this.service.package.path].filter(Boolean);
    for (const directory of directories.map((name) => path.resolve(serviceDir, name))) {
      if (fs.existsSync(directory)) fs.chmodSync(directory, 0o700);
    }
  }

  // Until it has looked, an index does not know what it does not have, and answers 503.
  async synchronise() {
    // That of osls, configured as it is.
    const sdk = require.resolve("@aws-sdk/client-lambda", { paths: [path.dirname(require.resolve("osls/package.json"))] });
    const { LambdaClient, InvokeCommand } = require(sdk);
    const FunctionName = this.service.getFunction("sync" in this.service.functions ? "sync" : "site").name;
    try {
      const client = new LambdaClient(await this.serverless.getProvider("aws").getAwsSdkV3Config());
      await client.send(new InvokeCommand({ FunctionName, InvocationType: "Event", Payload: "{}" }));
      this.log.notice("The index looks through its bucket now; `elasticpypi doctor` says when it has.");
    } catch (error) {
      this.log.warning(`${FunctionName} could not be started (${error.message}): run \`elasticpypi sync\``);
    }
  }

  // Not in the resources, which would take a "${" in it for a variable of `sls`.
  fillViewerRequest() {
    const { Resources: resources } = this.service.provider.compiledCloudFormationTemplate;
    if (!resources.SiteRequests) return;
    const constant = "const AUTHORIZATIONS = [];";
    const source = fs.readFileSync(VIEWER_REQUEST, "utf8");
    if (source.split(constant).length !== 2) throw new Error(`${VIEWER_REQUEST} has no line ${constant}`);
    const digests = JSON.stringify(authorizations(this.options), null, 1);
    const code = source.replace(constant, () => `const AUTHORIZATIONS = ${digests};`);
    if (Buffer.byteLength(code) > LARGEST_FUNCTION) {
      throw new this.serverless.classes.Error("'users' is too large: CloudFront's function would have more than 10 KB");
    }
    resources.SiteRequests.Properties.FunctionCode = code;
  }

  // What a REST API answers by itself is part of a deployment only if it was there before.
  orderDeployment() {
    const { Resources: resources } = this.service.provider.compiledCloudFormationTemplate;
    const named = (type) => Object.keys(resources).filter((name) => resources[name].Type === type);
    const answers = named("AWS::ApiGateway::GatewayResponse");
    for (const name of named("AWS::ApiGateway::Deployment")) {
      resources[name].DependsOn = [...(resources[name].DependsOn ?? []), ...answers];
    }
  }
}

module.exports = ElasticpypiPlugin;
