"""What to copy into a page, a program or a terminal so that events arrive: one snippet a kind, with address and key filled in."""

from typing import Final
from urllib.parse import urlencode

from conosco.model.definition import SourceType

# The documented snippet of analytics.js, with our address instead of its maker's.
_BROWSER: Final = """<script>
!function(){var i="analytics",analytics=window[i]=window[i]||[];if(analytics.initialize)return;
if(analytics.invoked){window.console&&console.error&&console.error("The snippet is on this page twice.");return}
analytics.invoked=!0;analytics.methods=["trackSubmit","trackClick","trackLink","trackForm","pageview","identify","reset","group",
"track","ready","alias","debug","page","screen","once","off","on","addSourceMiddleware","addIntegrationMiddleware",
"setAnonymousId","addDestinationMiddleware","register"];
analytics.factory=function(e){return function(){if(window[i].initialized)return window[i][e].apply(window[i],arguments);
var n=Array.prototype.slice.call(arguments);if(["track","screen","alias","group","page","identify"].indexOf(e)>-1){
var c=document.querySelector("link[rel='canonical']");n.push({__t:"bpc",c:c&&c.getAttribute("href")||void 0,p:location.pathname,
u:location.href,s:location.search,t:document.title,r:document.referrer})}n.unshift(e);analytics.push(n);return analytics}};
for(var n=0;n<analytics.methods.length;n++){var key=analytics.methods[n];analytics[key]=analytics.factory(key)}
analytics.load=function(key,n){var t=document.createElement("script");t.type="text/javascript";t.async=!0;
t.setAttribute("data-global-segment-analytics-key",i);t.src="@URL@/analytics.js/v1/"+key+"/analytics.min.js";
var r=document.getElementsByTagName("script")[0];r.parentNode.insertBefore(t,r);analytics._loadOptions=n};
analytics._cdn="@URL@";analytics._writeKey="@KEY@";analytics.SNIPPET_VERSION="5.2.0";
analytics.load("@KEY@");
analytics.page();
}();
</script>"""

_PYTHON: Final = """# pip install segment-analytics-python
import segment.analytics as analytics

analytics.write_key = "@KEY@"
analytics.host = "@URL@"
analytics.track("user-1", "Order Completed", {"revenue": 39.5})
analytics.flush()"""

_NODE: Final = """// npm install @segment/analytics-node
const { Analytics } = require("@segment/analytics-node")

const analytics = new Analytics({ writeKey: "@KEY@", host: "@URL@" })
analytics.track({ userId: "user-1", event: "Order Completed", properties: { revenue: 39.5 } })
analytics.closeAndFlush()"""

_CURL: Final = """curl -u '@KEY@:' @URL@/v1/track \\
  -d '{"userId": "user-1", "event": "Order Completed", "properties": {"revenue": 39.5}}'"""

TITLES: Final = {
    "browser": "In every page, inside <head>",
    "python": "Python",
    "node": "Node",
    "curl": "A first event from a terminal",
    "pixel": "An image, for e-mails and pages without scripts",
}
# Keys of browsers and apps are public: they only observe. A server's key may join people, so no page may hold it.
_KINDS: Final[dict[SourceType, tuple[str, ...]]] = {
    "browser": ("browser", "pixel", "curl"),
    "app": ("curl", "pixel"),
    "server": ("python", "node", "curl"),
}


def snippets(kind: SourceType, url: str, write_key: str) -> dict[str, str]:
    """The snippets of a source of this type, by name (see TITLES)."""
    query = urlencode({"writeKey": write_key, "anonymousId": "reader-1", "event": "Email Opened"})
    pixel = f'<img src="{url}/pixel/v1/track?{query.replace("&", "&amp;")}" width="1" height="1" alt="">'
    made = {"browser": _BROWSER, "python": _PYTHON, "node": _NODE, "curl": _CURL, "pixel": pixel}
    return {name: made[name].replace("@URL@", url).replace("@KEY@", write_key) for name in _KINDS[kind]}
