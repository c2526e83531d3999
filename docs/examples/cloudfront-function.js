// A CloudFront function (cloudfront-js-2.0) for viewer requests to an index that is written as files into a bucket.
// The behaviours for "packages/*" (origin: the bucket with the files), "packages/*.metadata" (before it) and everything
// else (origin: the output) all use it. It is ECMAScript 5.1 with const and let, of which the runtime has all.

// The SHA-256 (hex) of every Authorization header that is let in; none: everybody is.
const AUTHORIZATIONS = [];
// What the paths of the site begin with, for instance "/pypi", where the distribution has other things, too.
const PREFIX = "";

const crypto = require("crypto");

const JSON_TYPES = ["application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.latest+json"];
const HTML_TYPES = ["application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.latest+html", "text/html"];
const DISTRIBUTION = /^\/packages\/.+\.(whl|tar\.gz|zip|tar\.bz2|tar\.xz|egg)(\.metadata)?$/;

function handler(event) {
    const request = event.request;
    if (!isLetIn(request.headers)) {
        return {
            statusCode: 401,
            statusDescription: "Unauthorized",
            headers: {
                "www-authenticate": { value: 'Basic realm="elasticpypi"' },
                "cache-control": { value: "no-store" }
            }
        };
    }
    if (request.uri === PREFIX) {
        return redirect(PREFIX.slice(PREFIX.lastIndexOf("/") + 1) + "/");
    }
    if (request.uri.slice(0, PREFIX.length + 1) !== PREFIX + "/") {
        return notFound();
    }
    // S3 would take a plus sign for a space.
    const path = request.uri.slice(PREFIX.length).replace(/\+/g, "%2B");
    const plain = decode(path);
    if (plain === null || plain.indexOf("/.") >= 0) {
        return notFound();  // what a site keeps for itself, and whatever else is hidden
    }
    const place = normalized(plain);
    if (place !== null) {
        return redirect(place);
    }
    if (plain.slice(0, 10) === "/packages/") {
        if (!DISTRIBUTION.test(plain) || path.slice(0, 10) !== "/packages/") {
            return notFound();  // nothing else of the storage is given out, or asked of another bucket
        }
        request.uri = /\.metadata$/.test(plain) ? path : path.slice("/packages".length);
    } else if (/^\/simple\/(?:[a-z0-9-]+\/)?$/.test(plain)) {
        const accept = request.headers.accept;
        request.uri = path + (prefersJSON(accept === undefined ? "" : accept.value) ? "index.json" : "index.html");
    } else {
        request.uri = /\/$/.test(path) ? path + "index.html" : path;
    }
    return request;
}

// Comparing digests tells nobody how much of a guess was right.
function isLetIn(headers) {
    if (AUTHORIZATIONS.length === 0) {
        return true;
    }
    const given = headers.authorization === undefined ? "" : headers.authorization.value;
    return AUTHORIZATIONS.indexOf(crypto.createHash("sha256").update(given).digest("hex")) >= 0;
}

function decode(path) {
    try {
        return decodeURIComponent(path);
    } catch (error) {
        return null;
    }
}

// Where to go from a path whose project is not spelled as PEP 503 has it, or that lacks its slash; null: nowhere else.
function normalized(plain) {
    let found = /^\/(simple|changelog)$/.exec(plain);
    if (found !== null) {
        return found[1] + "/";
    }
    found = /^\/(simple|project)\/([A-Za-z0-9._-]+)(\/?)$/.exec(plain);
    if (found !== null && !(found[1] === "simple" && /^index\.(?:html|json)$/.test(found[2]))) {
        const name = normalize(found[2]);
        return name === found[2] && found[3] === "/" ? null : (found[3] === "/" ? "../" : "") + name + "/";
    }
    found = /^\/pypi\/([A-Za-z0-9._-]+)((?:\/[A-Za-z0-9._!+-]+)?)\/json$/.exec(plain);
    if (found !== null && normalize(found[1]) !== found[1]) {
        return (found[2] === "" ? "../" : "../../") + normalize(found[1]) + found[2].replace(/\+/g, "%2B") + "/json";
    }
    return null;
}

function normalize(name) {
    return name.replace(/[-_.]+/g, "-").toLowerCase();
}

// Whether an Accept header (RFC 9110, 12.5.1) likes JSON at least as much as HTML, and names it.
function prefersJSON(accept) {
    const qualities = {};
    accept.split(",").forEach(function (range) {
        const parts = range.split(";");
        let quality = 1;
        for (let i = 1; i < parts.length; i++) {
            const found = /^\s*q\s*=\s*([01](?:\.\d*)?)\s*$/i.exec(parts[i]);
            quality = found === null ? quality : parseFloat(found[1]);
        }
        qualities[parts[0].trim().toLowerCase()] = quality;
    });
    const json = best(qualities, JSON_TYPES);
    const any = qualities["*/*"];
    const text = qualities["text/html"] === undefined && any !== undefined ? any : 0;
    return json > 0 && json >= best(qualities, HTML_TYPES) && json >= text;
}

function best(qualities, types) {
    return types.reduce(function (most, type) {
        return qualities[type] > most ? qualities[type] : most;
    }, 0);
}

function redirect(place) {
    return {
        statusCode: 301,
        statusDescription: "Moved Permanently",
        headers: { location: { value: place }, "cache-control": { value: "private, max-age=0" } }
    };
}

function notFound() {
    return { statusCode: 404, statusDescription: "Not Found" };
}
