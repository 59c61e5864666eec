# Custom resources are in no smaller policy of AWS' than these two.
locals {
  policies = { deploy = "AmazonEKSClusterAdminPolicy", plan = "AmazonEKSAdminViewPolicy" }
}

module "cluster" {
  source  = "terraform-aws-modules/eks/aws"
  version = "20.37.2"

  cluster_name        = var.name
  cluster_version     = var.kubernetes
  authentication_mode = "API"
  # Whoever applies this installs the operators and the chart next.
  enable_cluster_creator_admin_permissions = true
  access_entries = {
    for role, may in var.access : role => {
      principal_arn = role
      policy_associations = {
        (may) = {
          policy_arn   = "arn:aws:eks::aws:cluster-access-policy/${local.policies[may]}"
          access_scope = { type = "namespace", namespaces = [var.namespace] }
        }
      }
    }
  }

  vpc_id                               = module.network.vpc_id
  subnet_ids                           = module.network.private_subnets
  cluster_endpoint_private_access      = true
  cluster_endpoint_public_access       = length(var.api_cidrs) > 0
  cluster_endpoint_public_access_cidrs = length(var.api_cidrs) > 0 ? var.api_cidrs : null

  create_kms_key = false
  cluster_encryption_config = {
    provider_key_arn = module.key.key_arn
    resources        = ["secrets"]
  }

  cluster_addons = {
    # The network policy agent of the VPC's CNI is what makes the chart's policies hold.
    vpc-cni = {
      before_compute       = true
      configuration_values = jsonencode({ enableNetworkPolicy = "true" })
    }
    coredns    = {}
    kube-proxy = {}
    # Nodes give pods no role: the driver of volumes has one of its own.
    aws-ebs-csi-driver = { service_account_role_arn = module.volumes_role.iam_role_arn }
    metrics-server     = {}
  }

  eks_managed_node_group_defaults = {
    # The images are of linux/amd64: PyFlink has no wheel for ARM.
    ami_type = "AL2023_x86_64_STANDARD"
    # Pods may not ask the node for its role.
    metadata_options = {
      http_endpoint               = "enabled"
      http_tokens                 = "required"
      http_put_response_hop_limit = 1
    }
    block_device_mappings = {
      root = {
        device_name = "/dev/xvda"
        ebs         = { volume_size = 100, volume_type = "gp3", encrypted = true }
      }
    }
  }

  # Its desired size is left to the cluster autoscaler of terraform/eks by the module.
  eks_managed_node_groups = {
    for name, group in var.nodes : name => {
      instance_types = group.types
      capacity_type  = group.capacity
      min_size       = group.min
      desired_size   = group.min
      max_size       = group.max
      labels         = { "headwater.io/nodes" = name }
    }
  }
}
