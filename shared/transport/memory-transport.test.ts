import { testPingClock, testTransport } from './compliance.ts';
import { MemoryTransport } from './memory-transport.ts';

testTransport('memory', () => new MemoryTransport());
testPingClock('memory', () => new MemoryTransport());
