#include "gateway/http/head.h"

#include <gtest/gtest.h>

#include "gateway/http/chunked.h"

namespace cyllm {
namespace {

int StatusOf(const std::string& text) {
  EXPECT_EQ(FindHeadEnd(text, 0), text.size()) << text;
  const auto head = ParseHead(text, {.max_target_bytes = 100, .max_fields = 5});
  return head ? 200 : head.error().status;
}

// A GET with these lines besides.
int WithLines(const std::string& lines) { return StatusOf("GET / HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n"); }
int WithLine(const std::string& line) { return StatusOf(line + "\r\nHost: x\r\n\r\n"); }

TEST(HeadTest, WhatItSays) {
  const std::string text =
      "POST /v1/x?y=1 HTTP/1.1\r\nhost: a:80\r\nContent-Length:  12 \r\nConnection: keep-alive, Close\r\n"
      "X-Empty:\r\nExpect: 100-Continue\r\n\r\n";
  const auto head = ParseHead(text, {});
  ASSERT_TRUE(head);
  EXPECT_EQ(head->method, "POST");
  EXPECT_EQ(head->target, "/v1/x?y=1");
  EXPECT_EQ(head->content_length, 12u);
  EXPECT_FALSE(head->keep_alive);
  EXPECT_TRUE(head->expects_continue);
  EXPECT_EQ(head->fields.at(3).name, "X-Empty");
  EXPECT_EQ(head->fields.at(3).value, "");
}

TEST(HeadTest, Lines) {
  const std::pair<const char*, int> kTable[] = {
      {"GET / HTTP/1.1", 200},         {"GET / HTTP/1.2", 200},
      {"GET / HTTP/1.0", 200},         {"GET / HTTP/2.0", 400},
      {"PRI * HTTP/2.0", 400},         {"GET / http/1.1", 400},
      {"GET / HTTP/11", 400},          {"GET /", 400},
      {"GET  / HTTP/1.1", 400},        {"GET / HTTP/1.1 ", 400},
      {" GET / HTTP/1.1", 400},        {"G@T / HTTP/1.1", 400},
      {"GET /a b HTTP/1.1", 400},      {"GET /\x01 HTTP/1.1", 400},
      {"GET /\xc3\xa9 HTTP/1.1", 400}, {"GET http://h/p HTTP/1.1", 200},
      {"GET http://h HTTP/1.1", 200},  {"GET p HTTP/1.1", 400},
      {"OPTIONS * HTTP/1.1", 200},     {"GET * HTTP/1.1", 400},
      {"CONNECT h:1 HTTP/1.1", 405},   {"BREW / HTTP/1.1", 200},
  };
  for (const auto& [line, status] : kTable) EXPECT_EQ(WithLine(line), status) << line;
  EXPECT_EQ(WithLine("GET /" + std::string(200, 'a') + " HTTP/1.1"), 414);
  EXPECT_EQ(WithLine(std::string(200, 'A') + " / HTTP/1.1"), 400);
  EXPECT_EQ(ParseHead("GET http://h/p HTTP/1.1\r\nHost: h\r\n\r\n", {})->target, "/p");
}

TEST(HeadTest, Fields) {
  const std::pair<const char*, int> kTable[] = {
      {"A: b\r\n", 200},
      {"A : b\r\n", 400},
      {": b\r\n", 400},
      {"A\r\n", 400},
      {"A: b\r\n c\r\n", 400},
      {"A: b\n", 400},
      {"A: b\rc\r\n", 400},
      {"A: b\x01\r\n", 400},
      {"A(: b\r\n", 400},
      {"Host: y\r\n", 400},
      {"Content-Length: 5\r\n", 200},
      {"Content-Length: 5\r\nContent-Length: 5\r\n", 400},
      {"Content-Length: 5, 6\r\n", 400},
      {"Content-Length: +5\r\n", 400},
      {"Content-Length: -0\r\n", 400},
      {"Content-Length: 0x5\r\n", 400},
      {"Content-Length: 1_0\r\n", 400},
      {"Content-Length: 5 5\r\n", 400},
      {"Content-Length:\r\n", 400},
      {"Content-Length: 99999999999999999999999\r\n", 400},
      {"Transfer-Encoding: chunked\r\n", 200},
      {"Transfer-Encoding: CHUNKED\r\n", 200},
      {"Transfer-Encoding: xchunked\r\n", 400},
      {"Transfer-Encoding: identity\r\n", 400},
      {"Transfer-Encoding: chunked, identity\r\n", 400},
      {"Transfer-Encoding: gzip, chunked\r\n", 400},
      {"Transfer-Encoding:\r\n", 400},
      {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400},
      {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400},
      {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400},
      {"Expect: something\r\n", 417},
      {"Content-Encoding: gzip\r\n", 415},
      {"A:\r\nB:\r\nC:\r\nD:\r\nE:\r\n", 431},
  };
  for (const auto& [lines, status] : kTable) EXPECT_EQ(WithLines(lines), status) << lines;
  EXPECT_EQ(WithLines(std::string("A: b\0c\r\n", 8)), 400);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\n\r\n"), 400) << "no Host";
  EXPECT_EQ(StatusOf("GET / HTTP/1.0\r\n\r\n"), 200);
  EXPECT_EQ(StatusOf("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
}

TEST(HeadTest, EndIsFoundInPieces) {
  const std::string text = "GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
  for (size_t n = 0; n < text.size() - 4; ++n) EXPECT_EQ(FindHeadEnd(text.substr(0, n), n ? n - 1 : 0), 0u);
  for (size_t from = 0; from <= text.size() - 4; ++from) EXPECT_EQ(FindHeadEnd(text, from), text.size() - 4);
  EXPECT_EQ(FindHeadEnd("a\n\n", 0), 3u);
}

TEST(HeadTest, Garbage) {
  for (const char* text : {"", "G", "GET", "GET ", "GET /x"}) EXPECT_TRUE(LooksLikeHead(text)) << text;
  for (const char* text : {"\x16\x03\x01", " GET", "{\"a\"", "GET\r\n"})
    EXPECT_FALSE(LooksLikeHead(text)) << text;
  EXPECT_FALSE(LooksLikeHead(std::string(40, 'A')));
}

// Whole, and byte by byte.
std::pair<ChunkedDecoder::State, std::string> Decoded(std::string_view text, size_t max = 1000) {
  ChunkedDecoder whole(max), pieces(max);
  std::string body, again;
  size_t used = 0, at = 0;
  const auto state = whole.Feed(text, used, body);
  auto state2 = ChunkedDecoder::State::kMore;
  while (at < text.size() && state2 == ChunkedDecoder::State::kMore) {
    size_t one = 0;
    state2 = pieces.Feed(text.substr(at, 1), one, again);
    at += one;
  }
  EXPECT_EQ(state, state2) << text;
  EXPECT_EQ(body, again);
  EXPECT_EQ(used, at);
  return {state, body};
}

TEST(ChunkedTest, Bodies) {
  using State = ChunkedDecoder::State;
  EXPECT_EQ(Decoded("3\r\nabc\r\n0A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n"),
            (std::pair{State::kDone, std::string("abc0123456789")}));
  EXPECT_EQ(Decoded("0\r\nTrailer: x\r\nOther: y\r\n\r\nnext").first, State::kDone);
  EXPECT_EQ(Decoded("3\r\nab").first, State::kMore);
  for (const char* text : {"\r\n", "x\r\n", " 3\r\n", "+3\r\n", "-1\r\n", "0x3\r\n", "3 \r\n", "3\n", "3\r\r",
                           "3;\n", "3;a\x01\r\n", "3\r\nabcd", "3\r\nabc\n", "ffffffffffffffff\r\n",
                           "1000000000000000\r\n", "0\r\n x\r\n\r\n", "0\r\nA: b\n\r\n", "0\r\n:\r\n\r\n"})
    EXPECT_EQ(Decoded(text).first, State::kMalformed) << text;
  EXPECT_EQ(Decoded("3;" + std::string(64 << 10, 'x') + "\r\n").first, State::kMalformed);
  EXPECT_EQ(Decoded("5\r\nabcde\r\n", 4).first, State::kTooLarge);
  EXPECT_EQ(Decoded("4\r\nabcd\r\n1\r\n", 4).first, State::kTooLarge);
}

}  // namespace
}  // namespace cyllm
