variable "name" {
  description = "Names everything: headwater-production, say."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,28}[a-z0-9]$", var.name))
    error_message = "name: 4 to 30 of a-z, 0-9 and -, beginning with a letter."
  }
}

variable "region" {
  description = "AWS region."
  type        = string
}

variable "cidr" {
  description = "The network's addresses; the chart's networkPolicies.egress must hold them."
  type        = string
  default     = "10.0.0.0/16"
}

variable "zones" {
  description = "In how many availability zones. Kafka has a broker in each."
  type        = number
  default     = 3
  validation {
    condition     = var.zones >= 2 && var.zones <= 3
    error_message = "zones: 2 or 3."
  }
}

variable "nat_per_zone" {
  description = "A NAT gateway in every zone. One alone costs a third, and its zone's loss is everyone's."
  type        = bool
  default     = true
}

variable "kubernetes" {
  description = "Version of EKS."
  type        = string
  default     = "1.34"
}

variable "api_cidrs" {
  description = "Who may reach the cluster's public API endpoint; nobody if empty, from inside the network only."
  type        = list(string)
  default     = []
  validation {
    condition     = !contains(var.api_cidrs, "0.0.0.0/0")
    error_message = "api_cidrs: not the whole internet."
  }
}

variable "access" {
  description = "Roles by ARN that reach the cluster's API besides who made it: `deploy` may do everything in the namespace, `plan` may read it, secrets too."
  type        = map(string)
  default     = {}
  validation {
    condition     = alltrue([for may in values(var.access) : contains(["deploy", "plan"], may)])
    error_message = "access: `deploy` or `plan` for each role."
  }
}

variable "nodes" {
  description = "The node groups: `jobs` for Flink, `serving` for the API and everything else."
  type = map(object({
    types    = list(string)
    min      = number
    max      = number
    capacity = optional(string, "ON_DEMAND")
  }))
  default = {
    serving = { types = ["m7i.large"], min = 3, max = 10 }
    # A lost spot node costs a restart from the last checkpoint.
    jobs = { types = ["r7i.xlarge", "r6i.xlarge"], min = 1, max = 10, capacity = "SPOT" }
  }
  validation {
    condition     = !anytrue([for type in flatten(values(var.nodes)[*].types) : can(regex("^(a1|[a-z]+[0-9]+[a-z-]*g[a-z-]*)\\.", type))])
    error_message = "nodes: no machines of ARM (m7g, r7g, ...): the images are of linux/amd64."
  }
}

variable "kafka" {
  description = "MSK: version, broker type and storage in GiB a broker. The log is kept for ever: storage grows by itself."
  type = object({
    version     = optional(string, "4.1.x.kraft")
    type        = optional(string, "kafka.m7g.large")
    storage     = optional(number, 500)
    max_storage = optional(number, 4000)
  })
  default = {}
}

variable "kafka_secret_written" {
  description = "Whether Kafka's secret has its value: false for the first apply, which makes the secret, and true from the next one on."
  type        = bool
  default     = false
}

variable "redis" {
  description = "ElastiCache: node type and replicas. Features must fit its memory."
  type = object({
    version  = optional(string, "7.1")
    type     = optional(string, "cache.r7g.large")
    replicas = optional(number, 1)
  })
  default = {}
}

variable "postgres" {
  description = "RDS: the Iceberg catalog and Feast's registry. Small. After rotate_days it gets a new password, and whoever uses it must be told."
  type = object({
    version     = optional(string, "18")
    type        = optional(string, "db.t4g.medium")
    storage     = optional(number, 50)
    rotate_days = optional(number, 365)
  })
  default = {}
}

variable "keep_savepoints_days" {
  description = "After how many days a savepoint is removed. Longer than any job may be down."
  type        = number
  default     = 30
  validation {
    condition     = var.keep_savepoints_days >= 7
    error_message = "keep_savepoints_days: 7 or more, or a job that was down over a holiday loses its state."
  }
}

variable "namespace" {
  description = "Where the chart is installed; its service accounts get the roles."
  type        = string
  default     = "features"
}

variable "protect" {
  description = "Refuse to destroy stores, and keep last snapshots."
  type        = bool
  default     = true
}
