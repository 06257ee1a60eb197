"""The one outbound client: what it refuses to connect to, and how it reads what comes back."""

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from conosco.connectors.outbound import Answer, Limits, Outbound, checked_address, parse_url
from tests.unit.connectors.receiver import OK, Answering, Received, receiving, saying, status

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
CERTIFICATE = Path(__file__).with_name("hooks_example.pem")

REFUSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.1.2.3 169.254.169.254 172.16.0.1 172.31.255.255
192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.1.1.1 240.0.0.1
255.255.255.255 :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:8.8.8.8
64:ff9b::8.8.8.8 64:ff9b::169.254.169.254 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1
2001:db8::1 2002:7f00:1:: 2002:808:808::1 3fff::1 3ffe::1 4000::1 5f00::1 fc00::1 fd12:3456::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1
ff0e::1 2606:4700::1%eth0 not-an-address 127.1 0x7f000001
""".split()
PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 169.253.0.1 172.15.255.255 172.32.0.0
192.0.1.0 198.17.255.255 198.20.0.0 223.255.255.255 2606:4700:4700::1111 2a00:1450:4001:80b::200e 2001:4860:4860::8888
""".split()
SPELLINGS = [
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://①②⑦.⓪.⓪.①/",
    "http://１２７．０．０．１/",
    "http://127。0。0。1/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[0:0:0:0:0:ffff:7f00:1]/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://127.0.0.1:80/",
]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert checked_address(address) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_passes(address: str) -> None:
    assert checked_address(address) == address


def test_an_ipv4_address_wrapped_in_ipv6_is_unwrapped_before_it_is_used() -> None:
    assert checked_address("::ffff:8.8.8.8") == "8.8.8.8"
    assert checked_address("::ffff:10.1.2.3", (ipaddress.ip_network("10.0.0.0/8"),)) == "10.1.2.3"


def test_private_addresses_pass_only_inside_the_allowed_networks() -> None:
    allowed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))
    assert checked_address("10.1.2.3", allowed) == "10.1.2.3"
    assert checked_address("fd00::5", allowed) == "fd00::5"
    assert checked_address("10.2.0.1", allowed) is None
    assert checked_address("127.0.0.1", allowed) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example",
        "//hooks.example/",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://user@hooks.example/",
        "http://user:word@hooks.example/",
        "http://hooks.example\\@127.0.0.1/",
        "http://hooks.example /",
        "http://hooks.example/\r\nx: y",
        "http://hooks.example/\x00",
        "http://hooks.example:0/",
        "http://hooks.example:99999/",
        "http://hooks.example:80:90/",
        "http://[fe80::1%25eth0]/",
        "http://[::1/",
        "http://a[::1]/",
        "http://[127.0.0.1]/",
        "http://hooks%2eexample/",
        "http://" + "a" * 300 + ".example/",
        "http://hooks.example/" + "a" * 2_048,
    ],
)
def test_a_url_that_could_be_read_in_two_ways_is_no_url(url: str) -> None:
    with pytest.raises(ValueError):  # ipaddress and the idna codec have messages of their own
        parse_url(url)


def test_a_url_is_parsed_once_into_what_is_sent() -> None:
    target = parse_url("https://Bücher.example:8443/ä b?q=ü#part".replace(" ", "%20"))
    assert target == (True, "xn--bcher-kva.example", 8443, "xn--bcher-kva.example:8443", "/%C3%A4%20b?q=%C3%BC")
    assert parse_url("http://[2606:4700::1]") == (False, "2606:4700::1", 80, "[2606:4700::1]", "/")


def a_resolver(*answers: Sequence[str]) -> tuple[Callable[[str, int], Awaitable[Sequence[str]]], list[str]]:
    """A resolver that gives one answer after the other, and the hosts it was asked for."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


async def post(outbound: Outbound, url: str, *, allow_private: bool = True) -> Answer:
    return await outbound.post(url, {"webhook-id": "dlv_1"}, b"{}", allow_private=allow_private)


@pytest.mark.parametrize("url", SPELLINGS)
@pytest.mark.parametrize("allow_private", [False, True])
def test_no_spelling_of_a_private_address_is_connected_to(url: str, allow_private: bool) -> None:
    # ``allow_private`` on the destination alone opens nothing: the administrator has allowed no network here.
    async def scene() -> None:
        async with receiving() as receiver:
            outbound = Outbound()
            spelled = url.rstrip("/").removesuffix(":80") + f":{receiver.port}/"
            assert (await post(outbound, spelled, allow_private=allow_private)).failure == "refused_address"
            await outbound.close()
            assert receiver.connections == 0

    asyncio.run(scene())


def test_a_network_that_is_allowed_is_open_only_to_requests_that_ask_for_it() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            outbound = Outbound(allow_private_networks=LOOPBACK)
            assert await post(outbound, receiver.url) == Answer(200)
            # The connection that is kept for the one must not serve the other.
            assert await post(outbound, receiver.url, allow_private=False) == Answer(failure="refused_address")
            await outbound.close()
            assert len(receiver.requests) == 1

    asyncio.run(scene())


def test_one_refused_address_among_many_refuses_the_host() -> None:
    async def scene() -> None:
        resolve, _ = a_resolver(["8.8.8.8", "127.0.0.1"])
        outbound = Outbound(resolver=resolve)
        assert (await post(outbound, "http://hooks.example/")).failure == "refused_address"
        await outbound.close()

    asyncio.run(scene())


def test_a_host_that_changes_its_address_is_asked_once_and_only_the_checked_address_is_used() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            # The first answer is fine, every later one points elsewhere: a second question would be seen.
            resolve, asked = a_resolver(["127.0.0.1"], ["10.0.0.1"])
            outbound = Outbound(allow_private_networks=LOOPBACK, resolver=resolve)
            url = f"http://hooks.example:{receiver.port}/hook"
            assert await post(outbound, url) == Answer(200)
            assert asked == ["hooks.example"]
            assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"
            await outbound.close()
            again = Outbound(allow_private_networks=LOOPBACK, resolver=resolve)
            assert (await post(again, url)).failure == "refused_address"
            await again.close()
            assert receiver.connections == 1

    asyncio.run(scene())


def test_many_who_need_the_same_host_ask_once() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            resolve, asked = a_resolver(["127.0.0.1"])
            outbound = Outbound(allow_private_networks=LOOPBACK, resolver=resolve)
            url = f"http://hooks.example:{receiver.port}/"
            answers = await asyncio.gather(*[post(outbound, url) for _ in range(8)])
            assert answers == [Answer(200)] * 8
            assert len(asked) == 1
            await outbound.close()

    asyncio.run(scene())


async def answer_to(answering: Answering, limits: Limits | None = None) -> tuple[Answer, list[Received]]:
    async with receiving(answering) as receiver:
        outbound = Outbound(allow_private_networks=LOOPBACK, limits=limits)
        answer = await post(outbound, receiver.url)
        await outbound.close()
        return answer, receiver.requests


@pytest.mark.parametrize("code", [200, 204, 301, 302, 307, 308, 404, 410, 429, 500, 503])
def test_the_status_is_told_and_redirects_are_not_followed(code: int) -> None:
    answer, requests = asyncio.run(answer_to(status(code, "location: http://127.0.0.1:1/elsewhere")))
    assert answer == Answer(code)
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Answer(200)),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, Answer(200)),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", Answer(200)),
        (b"HTTP/1.0 202 Accepted\r\n\r\n", Answer(202)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncut", Answer(200)),
        (b"HTTP/1.1 2", Answer(failure="connect_failed")),
        (b"SSH-2.0-OpenSSH_9\r\n", Answer(failure="connect_failed")),
        (b"", Answer(failure="connect_failed")),
    ],
)
def test_answers_of_every_shape_are_read(said: bytes, expected: Answer) -> None:
    answer, requests = asyncio.run(answer_to(saying(said, stay=False)))
    assert answer == expected
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("head", "code"), [(b"content-length: 9999999\r\n\r\n", 200), (b"\r\n", 200), (b"x: " + b"y" * 70_000, 0)]
)
def test_an_answer_is_read_up_to_64_kb_and_no_further(head: bytes, code: int) -> None:
    flowed = 0

    async def flow(_: Received, writer: asyncio.StreamWriter) -> bool:
        nonlocal flowed
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        while flowed < 50_000_000:
            writer.write(b"z" * 10_000)
            flowed += 10_000
            await writer.drain()
        return False

    answer, _ = asyncio.run(answer_to(flow))
    assert answer == Answer(code, "too_large")
    assert flowed < 50_000_000


def test_a_receiver_that_says_nothing_or_never_ends_is_left_after_a_time() -> None:
    async def silent(_: Received, __: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(60)
        return False

    async def endless(_: Received, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        await asyncio.sleep(60)
        return False

    limits = Limits(total_s=0.1)
    assert asyncio.run(answer_to(silent, limits))[0] == Answer(failure="timeout")
    assert asyncio.run(answer_to(endless, limits))[0] == Answer(200, "timeout")


def test_connections_are_used_again() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            outbound = Outbound(allow_private_networks=LOOPBACK)
            for _ in range(5):
                assert await post(outbound, receiver.url) == Answer(200)
            await outbound.close()
            assert (len(receiver.requests), receiver.connections) == (5, 1)

    asyncio.run(scene())


def test_a_connection_is_not_kept_when_the_receiver_closes_or_says_more_than_it_was_asked() -> None:
    async def scene(said: bytes, stay: bool) -> None:
        async with receiving(saying(said, stay=stay)) as receiver:
            outbound = Outbound(allow_private_networks=LOOPBACK)
            for _ in range(3):
                assert await post(outbound, receiver.url) == Answer(200)
            await outbound.close()
            assert receiver.connections == 3

    asyncio.run(scene(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), True))
    asyncio.run(scene(OK + b"HTTP/1.1 500 Smuggled\r\n", True))


def test_a_kept_connection_that_the_receiver_has_left_is_replaced() -> None:
    async def scene() -> None:
        answers = iter([OK, b"", OK])

        async def answering(_: Received, writer: asyncio.StreamWriter) -> bool:
            said = next(answers)
            writer.write(said)
            return bool(said)

        async with receiving(answering) as receiver:
            outbound = Outbound(allow_private_networks=LOOPBACK)
            assert await post(outbound, receiver.url) == Answer(200)
            assert await post(outbound, receiver.url) == Answer(200)
            await outbound.close()
            assert (len(receiver.requests), receiver.connections) == (3, 2)

    asyncio.run(scene())


def test_failures_to_connect_have_their_words() -> None:
    async def scene() -> None:
        async def unknown(host: str, port: int) -> Sequence[str]:
            raise OSError("no such host")

        nothing, _ = a_resolver([])
        for resolve in (unknown, nothing):
            outbound = Outbound(resolver=resolve)
            assert (await post(outbound, "http://hooks.example/")).failure == "unresolvable"
            await outbound.close()
        async with receiving() as receiver:
            closed = receiver.url
        outbound = Outbound(allow_private_networks=LOOPBACK)
        assert (await post(outbound, closed)).failure == "connect_failed"
        await outbound.close()

    asyncio.run(scene())


def test_a_name_server_that_does_not_answer_is_a_timeout() -> None:
    async def scene() -> None:
        async def never(host: str, port: int) -> Sequence[str]:
            await asyncio.sleep(60)
            return []

        outbound = Outbound(resolver=never, limits=Limits(connect_s=0.05))
        assert (await post(outbound, "http://hooks.example/")).failure == "timeout"
        await outbound.close()

    asyncio.run(scene())


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with receiving() as proxy, receiving() as receiver:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            outbound = Outbound(allow_private_networks=LOOPBACK)
            assert await post(outbound, receiver.url) == Answer(200)
            await outbound.close()
            assert (proxy.connections, receiver.connections) == (0, 1)

    asyncio.run(scene())


def test_tls_checks_the_name_in_the_url_although_it_connects_to_an_address() -> None:
    async def scene() -> None:
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(CERTIFICATE)
        named: list[str | None] = []
        serving.sni_callback = lambda _, name, __: named.append(name)
        trusting = ssl.create_default_context(cafile=CERTIFICATE)
        resolve, _ = a_resolver(["127.0.0.1"])
        async with receiving(tls=serving) as receiver:
            outbound = Outbound(allow_private_networks=LOOPBACK, resolver=resolve, tls=trusting)
            assert await post(outbound, f"https://hooks.example:{receiver.port}/") == Answer(200)
            assert named == ["hooks.example"]
            assert (await post(outbound, f"https://other.example:{receiver.port}/")).failure == "tls_failed"
            await outbound.close()
            public = Outbound(allow_private_networks=LOOPBACK, resolver=resolve)
            assert (await post(public, f"https://hooks.example:{receiver.port}/")).failure == "tls_failed"
            await public.close()
            assert len(receiver.requests) == 1

    asyncio.run(scene())


def test_a_header_cannot_break_out_of_its_line() -> None:
    async def scene() -> None:
        outbound = Outbound()
        with pytest.raises(ValueError, match="webhook-id"):
            await outbound.post("http://hooks.example/", {"webhook-id": "dlv\r\nx: y"}, b"")
        await outbound.close()

    asyncio.run(scene())
